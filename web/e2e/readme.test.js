// What the README tells a newcomer to type, typed as it is there, beside a real server.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { RollcallClient } from "@rollcall/sdk";

import { Program, repository } from "./program.js";
import { Rollcall } from "./server.js";
import { until } from "./wait.js";

const bound = { timeout: 60_000 };
let rollcall;

before(async () => {
  rollcall = await Rollcall.start();
});

after(() => rollcall?.stop());

// blockOf returns the block of code of a document that has some words in it, with this test's server.
async function blockOf(file, words) {
  const text = await readFile(join(repository, file), "utf8");
  const blocks = [...text.matchAll(/^```\w*\n([^]*?)^```$/gm)].map(([, block]) => block);
  const found = blocks.find((block) => block.includes(words));
  assert.ok(found, `${file} has no example with: ${words}`);
  return found.replaceAll("127.0.0.1:8080", rollcall.http);
}

test("the four steps", bound, async (context) => {
  await rollcall.createUser("bob");
  const folder = await mkdtemp(join(tmpdir(), "readme-"));
  context.after(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, "data"));
  await copyFile(rollcall.credentialsFile, join(folder, "data/credentials.json"));
  const script = `set -eu\n${await blockOf("README.md", "users/bob?upsert=true")}`;
  const { stdout } = await promisify(execFile)("sh", ["-c", script], { cwd: folder });
  const answers = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(answers.map(({ error }) => error), Array(6).fill(undefined));
  const [made, me, changed, deactivated, reactivated, erased] = answers.map(({ data }) => data);
  assert.deepEqual([made.name, me.uid, me.statusMessage, changed.name, changed.metadata.team], ["Bob", "bob", "Hello", "Robert", "blue"]);
  assert.deepEqual([deactivated.deactivatedUids, reactivated.reactivatedUids, erased.success], [["bob"], ["bob"], true]);
});

for (const file of ["README.md", "web/sdk/README.md"]) {
  test(`the example of the SDK in ${file}`, bound, async (context) => {
    await rollcall.createUser("ada", { name: "Ada" }).catch(() => {}); // for the second file it is there
    const friend = await rollcall.createUser(`friend-${file.length}`, { name: "Adam" });
    const block = await blockOf(file, "client.presence.follow");
    const given = `const [appId, token] = ${JSON.stringify([rollcall.appId, await rollcall.mint("ada")])};\n`;
    const program = new Program(process.execPath, ["--input-type=module", "--eval", given + block], { cwd: join(repository, "web/e2e") });
    context.after(() => program.stop());
    const prints = (line) => until(`"${line}" is printed`, () => (program.mustRun(), program.stdout.includes(line)));
    await prints("Adam offline");
    const other = new RollcallClient({ appId: rollcall.appId, host: `http://${rollcall.http}`, storage: "memory" });
    context.after(() => other.close());
    await other.login({ token: await rollcall.mint(friend.uid) });
    await prints(`${friend.uid} is online`);
    assert.equal(program.stderr, "");
  });
}
