// A page of a program that uses the client. What the client tells it is noted where a test can read it.
//
// Knows the client by its public names: `Triode`, `tabs` and `indexedDbQueue` are globals by the time it is used.
globalThis.noted = { states: [], messages: [], gaps: [], complaints: [], notices: [], tokens: 0, published: [], failed: [] };

/** `shared`: over one connection for all tabs; `queue`: its name in IndexedDB; `tokens`: fetched, and numbered. */
globalThis.begin = (url, { shared, queue, tokens, ...options } = {}) => {
  if (shared) options.transport = globalThis.sharing = tabs(shared);
  if (queue) options.queue = { store: indexedDbQueue(queue) };
  if (tokens) options.token = async () => `token ${++noted.tokens}`;
  globalThis.client = new Triode(url, options);
  client.on("state", (event) => noted.states.push(event));
  client.on("complaint", (event) => noted.complaints.push(`${event.name}: ${event.message}`));
  client.on("notice", (event) => noted.notices.push(event));
};

/** `remember`: where its position is kept between two lives of this page. */
globalThis.listen = async (filter, { remember, ...options } = {}) => {
  const stored = remember && sessionStorage.getItem(remember);
  if (stored) options.after = JSON.parse(stored);
  const subscription = client.subscribe(filter, options, (message) => {
    noted.messages.push(message);
    if (remember) sessionStorage.setItem(remember, JSON.stringify(subscription.position));
  });
  subscription.on("gap", (gap) => noted.gaps.push(gap));
  globalThis.subscription = subscription;
  await subscription.ready;
};

/** Publish; noted when it is acknowledged, or when it is given up. */
globalThis.say = (topic, data) =>
  client.publish(topic, data).then(
    () => noted.published.push(data),
    (error) => noted.failed.push(`${data}: ${error.name}`),
  );

/** Publish 1, 2, 3, … one after the other, each when the one before is acknowledged, until `finish()`. */
globalThis.keepSaying = async (topic) => {
  let isOver = false;
  globalThis.finish = () => (isOver = true);
  for (let number = 1; !isOver; number++) await say(topic, number);
  finish.isDone = true;
};

/** How many messages wait in a queue of `indexedDbQueue`. */
globalThis.stored = (name) =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open("triode-queue:" + name);
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const db = request.result;
      const count = db.transaction("items").objectStore("items").count();
      count.onsuccess = () => resolve(count.result);
      db.close();
    };
  });
