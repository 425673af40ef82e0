/**
 * Which filters match which topics (SPEC 6). Knows no subscription.
 *
 * The surprising decision: nothing is checked here. What is no topic or filter the broker refuses, by rules (length,
 * levels, Unicode) that only it knows in its version; here a bad filter simply matches whatever it matches.
 */

/** Whether the filter of these levels matches the topic of those. */
export const matches = (filter: readonly string[], topic: readonly string[]): boolean =>
  !(topic[0]![0] == "$" && /^[+#]$/.test(filter[0]!)) &&
  filter.every((level, i) => level == "#" || (level == "+" ? i < topic.length : level == topic[i])) &&
  (filter.length >= topic.length || filter[filter.length - 1] == "#");
