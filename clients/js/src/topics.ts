/**
 * Which filters match which topics (SPEC 6). Knows no subscription.
 *
 * The surprising decision: nothing is checked here. What is no topic or filter the broker refuses, by rules (length,
 * levels, Unicode) that only it knows in its version; here a bad filter simply matches whatever it matches.
 */

/** What the topics look like that match `filter`. */
export const pattern = (filter: string): RegExp =>
  RegExp(
    (/^[+#]/.test(filter) ? "^(?!\\$)" : "^") +
      filter
        .replace(/[\\^$.*?()[\]{}|]/g, "\\$&")
        .replace(/\+/g, "[^/]+")
        .replace(/(^|\/)#$/, "($1.*)?") +
      "$",
  );
