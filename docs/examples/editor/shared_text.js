/**
 * A text that several people edit at once: which operations count, and what becomes of one's own meanwhile.
 *
 * Knows no broker and no page: it is given what the log brings and says what to publish. The rules are in README.md,
 * the same in Python in shared_text.py, and vectors.json has cases for both. A change counts code points, so texts
 * are taken apart with [...text].
 */

const MOST_CHANGES = 1_000; // in one operation

/** A change is none, or runs over the end of the text. */
export class DoesNotFit extends Error {}

/** A change as it came in a message. Throws DoesNotFit. */
function parse(data) {
  const isStep = (step) => (typeof step === "string" || Number.isInteger(step)) && Boolean(step);
  if (!Array.isArray(data) || !data.every(isStep)) throw new DoesNotFit("no change");
  return data;
}

/** The text that a change makes of this one. Throws DoesNotFit. */
export function apply(change, text) {
  const characters = [...text];
  const done = [];
  let at = 0;
  for (const step of change) {
    if (typeof step === "string") done.push(step);
    else {
      if (step > 0) done.push(characters.slice(at, at + step).join(""));
      at += Math.abs(step);
    }
  }
  if (at > characters.length) throw new DoesNotFit(`${at} characters of ${characters.length}`);
  return done.join("") + characters.slice(at).join("");
}

/** Add a step; neighbours of one kind become one. */
function add(change, step) {
  const last = change.at(-1);
  const isSameKind = typeof last === typeof step && (typeof step === "string" || last * step > 0);
  if (isSameKind) change[change.length - 1] = last + step;
  else change.push(step);
}

/** The steps of a change, taken in pieces; 0 behind the last one: keeps all that is left. */
class Steps {
  constructor(change) {
    this.rest = [...change].reverse();
    this.forth();
  }

  /** Past this step, or past so many characters of it. */
  forth(length = Infinity) {
    if (typeof this.step === "number" && Math.abs(this.step) > length) this.step -= Math.sign(this.step) * length;
    else this.step = this.rest.pop() ?? 0;
  }
}

/**
 * A change with the same intent for the text that `theirs` makes of the text that both were made for.
 * `isMineFirst`: what `mine` inserts stands before what `theirs` inserts at the same place.
 */
export function rebase(mine, theirs, isMineFirst = false) {
  const rebased = [];
  const my = new Steps(mine);
  const their = new Steps(theirs);
  while (my.step) {
    if (typeof my.step === "string" && (isMineFirst || typeof their.step !== "string")) {
      add(rebased, my.step);
      my.forth();
    } else if (typeof their.step === "string") {
      add(rebased, [...their.step].length);
      their.forth();
    } else {
      const length = Math.min(Math.abs(my.step), Math.abs(their.step) || Infinity);
      if (their.step >= 0) add(rebased, Math.sign(my.step) * length); // what they delete is gone
      my.forth(length);
      if (their.step) their.forth(length);
    }
  }
  if (rebased.at(-1) > 0) rebased.pop(); // the rest is kept anyhow
  return rebased;
}

/** Changes that follow each other, rebased over one that was made for the text before the first of them. */
export function rebaseAll(mine, theirs) {
  const rebased = [];
  for (const change of mine) {
    rebased.push(rebase(change, theirs));
    theirs = rebase(theirs, change, true);
  }
  return rebased.filter((change) => change.length);
}

/** The change that makes `after` of `before`, in one place; empty if they are equal. */
export function difference(before, after) {
  const [was, is] = [[...before], [...after]];
  const shorter = Math.min(was.length, is.length);
  let same = 0;
  while (same < shorter && was[same] === is[same]) same += 1;
  let tail = 0;
  while (tail < shorter - same && was[was.length - 1 - tail] === is[is.length - 1 - tail]) tail += 1;
  if (before === after) return [];
  return [same, is.slice(same, is.length - tail).join(""), same + tail - was.length].filter(Boolean);
}

/**
 * One editor's copy: `take` what the log brings, in its order; `edit` as you like; publish what `nextOperation` gives,
 * with its id as message id, and ask again after each of the two.
 */
export class SharedText {
  agreed = ""; // the text as the log has it
  version = 0; // how many operations have made it
  pending = []; // own changes that have not counted yet
  #onItsWay;

  /** What the editor shows: what is agreed, and one's own changes. */
  get text() {
    return this.pending.reduce((text, change) => apply(change, text), this.agreed);
  }

  /** Change what is shown. Throws DoesNotFit. */
  edit(change) {
    apply(change, this.text);
    if (change.length) this.pending.push(change);
  }

  /** What is to be published now; undefined while one is on its way, or nothing is pending. */
  nextOperation() {
    if (this.#onItsWay || !this.pending.length) return undefined;
    const data = { parent: this.version, changes: this.pending.slice(0, MOST_CHANGES) };
    this.#onItsWay = { id: crypto.randomUUID(), data };
    return this.#onItsWay;
  }

  /** Whether an operation is on its way and may still count. */
  waitsFor(operation) {
    return this.#onItsWay === operation;
  }

  /** What a message of the log does to the text; whether it counts and is one's own. */
  take(messageId, data) {
    const changes = this.#counts(data);
    if (!changes) return false;
    this.version += 1;
    const mine = this.#onItsWay;
    this.#onItsWay = undefined; // it has counted, or its parent is old: it never will
    if (mine && mine.id === messageId) {
      this.pending.splice(0, mine.data.changes.length);
      return true;
    }
    for (const change of changes) this.pending = rebaseAll(this.pending, change);
    return false;
  }

  /** From a snapshot, after a gap. What is pending goes along. */
  beginAgain(text, version) {
    this.pending = rebaseAll(this.pending, difference(this.agreed, text));
    this.agreed = text;
    this.version = version;
    this.#onItsWay = undefined;
  }

  /** The changes of an operation, if it counts; the agreed text has them then. */
  #counts(data) {
    const { parent, changes } = data ?? {};
    if (parent !== this.version || !Array.isArray(changes)) return undefined;
    if (changes.length < 1 || changes.length > MOST_CHANGES) return undefined;
    try {
      this.agreed = changes.reduce((text, change) => apply(parse(change), text), this.agreed);
      return changes;
    } catch (error) {
      if (error instanceof DoesNotFit) return undefined;
      throw error;
    }
  }
}
