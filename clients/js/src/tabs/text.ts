/**
 * Cuts JSON texts where packets begin and end, and puts other numbers into them.
 *
 * Knows JSON's outline and nothing of packets. Payloads are never written anew: what passes is the text it came as,
 * so a number or an escape that JavaScript would write differently stays (SPEC 1.9). Every text given to these
 * functions was parsed by `JSON.parse` before; that is why they look for no mistakes.
 */

const QUOTE = 34;
const BACKSLASH = 92;

/** The place behind the string that begins at `at`. */
function behindString(text: string, at: number): number {
  for (let end = at; ; ) {
    end = text.indexOf('"', end + 1);
    let slashes = end;
    while (text.charCodeAt(slashes - 1) === BACKSLASH) slashes--;
    if ((end - slashes) % 2 === 0) return end + 1;
  }
}

/** The place behind the value that begins at `at`: for a number or a word, that of the comma or bracket after it. */
function behindValue(text: string, at: number): number {
  let depth = 0;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = behindString(text, at);
    else if (code === 123 || code === 91) depth++, at++; // { [
    else if (code === 125 || code === 93) {
      if (depth === 0) return at; // the end of what is around a number
      depth--, at++;
    } else if (code === 44 && depth === 0) return at; // ,
    else {
      at++;
      continue;
    }
    if (depth === 0) return at;
  }
}

function behindBlanks(text: string, at: number): number {
  while (text.charCodeAt(at) <= 32) at++;
  return at;
}

/** The texts of an array's elements. */
export function elements(text: string): string[] {
  const found: string[] = [];
  let at = behindBlanks(text, behindBlanks(text, 0) + 1);
  while (text[at] !== "]") {
    const end = behindValue(text, at);
    found.push(text.slice(at, end));
    at = behindBlanks(text, end);
    if (text[at] === ",") at = behindBlanks(text, at + 1);
  }
  return found;
}

/** An object's text with other numbers in it: `undefined` takes a member out, what is not there is added. */
export function patch(text: string, changes: Readonly<Record<string, number | undefined>>): string {
  const changed = Object.keys(changes);
  const members = changed.flatMap((key) => (changes[key] === undefined ? [] : [`"${key}":${changes[key]}`]));
  let at = behindBlanks(text, behindBlanks(text, 0) + 1);
  while (text[at] !== "}") {
    const colon = behindString(text, at);
    const end = behindValue(text, behindBlanks(text, behindBlanks(text, colon) + 1));
    if (!changed.includes(JSON.parse(text.slice(at, colon)))) members.push(text.slice(at, end));
    at = behindBlanks(text, end);
    if (text[at] === ",") at = behindBlanks(text, at + 1);
  }
  return `{${members.join(",")}}`;
}
