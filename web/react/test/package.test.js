// The package as npm delivers it.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { publint } from "publint";

const here = fileURLToPath(new URL("..", import.meta.url));
const require = createRequire(import.meta.url);

let folder, tarball;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "rollcall-react-"));
  const [{ filename }] = JSON.parse(execFileSync("npm", ["pack", "--json", "--silent", "--ignore-scripts", "--pack-destination", folder], { cwd: here }));
  tarball = join(folder, filename);
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
