// The package as npm delivers it.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { publint } from "publint";
import { build } from "vite";

const here = fileURLToPath(new URL("..", import.meta.url));
const require = createRequire(import.meta.url);

let folder, tarball;

// pack packs what is in a folder, and returns the file.
function pack(cwd) {
  const args = ["pack", "--json", "--silent", "--ignore-scripts", "--pack-destination", folder];
  const [{ filename }] = JSON.parse(execFileSync("npm", args, { cwd }));
  return join(folder, filename);
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), "rollcall-react-"));
  tarball = pack(here);
});

after(() => rmSync(folder, { recursive: true, force: true }));

test("attw finds nothing", { timeout: 60_000 }, () => {
  const attw = join(dirname(require.resolve("@arethetypeswrong/cli/package.json")), "dist/index.js");
  const { status, stdout, stderr } = spawnSync(process.execPath, [attw, tarball, "--no-emoji"], { encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
});

test("publint finds nothing", async () => {
  assert.deepEqual((await publint({ pkgDir: here, strict: true })).messages, []);
});

test("both kinds of modules have every hook", async () => {
  const hooks = ["RollcallProvider", "useConnection", "useMe", "usePresence", "useRollcall", "useUsers"];
  assert.deepEqual(Object.keys(await import("@rollcall/react")).sort(), hooks);
  assert.deepEqual(Object.keys(require("@rollcall/react")).sort(), hooks);
});

test("an app that installs the packed packages has one React, in Node and in Vite", { timeout: 120_000 }, async () => {
  const root = join(folder, "app");
  mkdirSync(root);
  writeFileSync(join(root, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  const folders = ["react", "react-dom", "scheduler"].map((name) => dirname(require.resolve(`${name}/package.json`)));
  const files = [tarball, ...[join(here, "../sdk"), ...folders].map(pack)];
  execFileSync("npm", ["install", "--silent", "--no-audit", "--no-fund", "--offline", ...files], { cwd: root });

  const page = `
import { createElement } from "react";
import { RollcallClient } from "@rollcall/sdk";
import { RollcallProvider, useMe, useUsers } from "@rollcall/react";
const client = new RollcallClient({ appId: "app", host: "http://127.0.0.1:9" });
const People = () => createElement("p", null, String(useMe()), useUsers().users.length);
export const app = createElement(RollcallProvider, { client }, createElement(People));
`;
  writeFileSync(join(root, "app.js"), page);
  const server = `
import { renderToString } from "react-dom/server";
import { app } from "./app.js";
console.log(renderToString(app));
`;
  writeFileSync(join(root, "server.js"), server);
  const { stdout, stderr } = spawnSync(process.execPath, ["server.js"], { cwd: root, encoding: "utf8" });
  assert.equal(stdout, "<p>undefined<!-- -->0</p>\n", stderr);

  writeFileSync(join(root, "index.html"), `<div id="root"></div><script type="module" src="/main.js"></script>`);
  const main = `
import { createRoot } from "react-dom/client";
import { app } from "./app.js";
createRoot(document.getElementById("root")).render(app);
`;
  writeFileSync(join(root, "main.js"), main);
  await build({ root, logLevel: "error" });
  const assets = join(root, "dist/assets");
  const text = readFileSync(join(assets, readdirSync(assets).find((name) => name.endsWith(".js"))), "utf8");
  assert.equal(text.match(/__CLIENT_INTERNALS_\w+=[^=]/g).length, 1, "React is in the bundle once");
});
