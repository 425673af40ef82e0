/** Which filters match which topics (SPEC 6.3, 6.4), by their levels. Knows no subscription and checks nothing. */

export function matches(filter: readonly string[], topic: readonly string[]): boolean {
  // A wildcard on the first level is not for the broker's own topics.
  if (topic[0]!.startsWith("$") && (filter[0] === "+" || filter[0] === "#")) return false;
  const isOpen = filter[filter.length - 1] === "#";
  const count = isOpen ? filter.length - 1 : filter.length;
  if (isOpen ? topic.length < count : topic.length !== count) return false;
  for (let n = 0; n < count; n++) if (filter[n] !== "+" && filter[n] !== topic[n]) return false;
  return true;
}
