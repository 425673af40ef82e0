// Makes dist/: each entry as ESM and CJS with its types for both, and everything as one script for a page.
//
// The surprising decision: names that end in `_` are private and are renamed, in each bundle anew. No bundle shares
// objects with another one but by the names of types.ts, so that does not matter.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

process.chdir(dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(readFileSync("package.json", "utf8"));

/** entry: source */
const entries = {
  index: "src/index.ts",
  node: "src/node.ts",
  offline: "src/offline.ts",
  react: "src/react.ts",
  tabs: "src/tabs/index.ts",
  "tabs-worker": "src/tabs/tabs-worker.ts",
};
const present = Object.fromEntries(Object.entries(entries).filter(([, source]) => existsSync(source)));

const settings = {
  bundle: true,
  write: false,
  target: "es2020",
  define: { VERSION: JSON.stringify(version) },
  external: ["react", "ws"],
  legalComments: "none",
  logLevel: "warning",
  logOverride: { "empty-import-meta": "silent" }, // tabs.cjs: a bundler or `worker` says where its script is
};

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
const made = await Promise.all([
  build({ ...settings, entryPoints: present, outdir: "dist", format: "esm" }),
  build({ ...settings, entryPoints: present, outdir: "dist", format: "cjs", outExtension: { ".js": ".cjs" } }),
  build({ ...settings, entryPoints: ["src/iife.ts"], outfile: "dist/triode.iife.js", format: "iife" }),
  build({ ...settings, entryPoints: ["src/tabs/iife.ts"], outfile: "dist/tabs.iife.js", format: "iife" }),
]);
for (const { path, text } of made.flatMap(({ outputFiles }) => outputFiles)) {
  const { code } = await minify(text, {
    ecma: 2020,
    module: !path.endsWith(".cjs") && !path.endsWith("iife.js"),
    compress: { passes: 3 },
    mangle: { toplevel: true, properties: { regex: /[^_]_$/ } },
  });
  writeFileSync(path, code);
}

// Types: what the entries need, once for import and once for require.
const tsc = join("node_modules", "typescript", "bin", "tsc");
execFileSync(
  process.execPath,
  [tsc, "-p", "tsconfig.build.json"],
  { stdio: "inherit" },
);
const needed = new Set();
const need = (file) => {
  if (needed.has(file)) return;
  needed.add(file);
  const text = readFileSync(file, "utf8");
  for (const [, path] of text.matchAll(/from "(\.[^"]*)\.js"|import\("(\.[^"]*)\.js"\)/g))
    if (path) need(join(dirname(file), path + ".d.ts"));
  writeFileSync(file.replace(/\.d\.ts$/, ".d.cts"), text.replace(/((?:from |import\()"\.[^"]*)\.js"/g, '$1.cjs"'));
};
for (const source of Object.values(present)) need(join("dist", "types", relative("src", source).replace(/\.ts$/, ".d.ts")));
for (const name of readdirSync("dist/types", { recursive: true }))
  if (/\.d\.ts$/.test(name) && !needed.has(join("dist/types", name))) rmSync(join("dist/types", name));
