/** Texts cut and patched without being read: whatever JSON they are, they mean the same. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { matches } from "../../src/tabs/filter.js";
import { elements, patch } from "../../src/tabs/text.js";

const ODD = [
  `{"type":"a"}`,
  ` {\n"id" : 1 ,"s":"}],{[\\"\\\\", "n":-1.5e+3,"o":{"id":2,"a":[1,{"sub":3}]} , "sub":4 }\r\n`,
  `{}`,
  `{"\\u0069d":1,"id":2,"":3,"x":"\\\\"}`,
  `{"a":[],"b":{},"c":"","d":[[[]]],"e":null,"f":true}`,
  `{"id":1e2,"sub":"x","z":"\\\\\\""}`,
];

test("a patched object is the same but for what was changed", () => {
  for (const text of ODD) {
    const { id, sub, ...rest } = JSON.parse(text);
    assert.deepEqual(JSON.parse(patch(text, { id: 7, sub: 8 })), { ...rest, id: 7, sub: 8 }, text);
    assert.deepEqual(JSON.parse(patch(text, { id: undefined })), { ...rest, ...(sub !== undefined && { sub }) }, text);
  }
});

test("an array's elements are the texts that stood in it", () => {
  assert.deepEqual(elements(" [ ] "), []);
  const texts = elements(`\t[${ODD.join(" ,\n")}, 12 , "a,b" ,[1,2],null]`);
  assert.deepEqual(texts.slice(0, 6).map((text) => text.trim()), ODD.map((text) => text.trim()));
  assert.deepEqual(texts.slice(6).map((text) => JSON.parse(text)), [12, "a,b", [1, 2], null]);
});

test("filters match as the shared vectors say (SPEC 6)", () => {
  const vectors = JSON.parse(readFileSync("../../protocol/vectors/matches.json", "utf8"));
  for (const { filter, topic, matches: expected } of vectors.cases) {
    assert.equal(matches(filter.split("/"), topic.split("/")), expected, `${filter} ${topic}`);
  }
});
