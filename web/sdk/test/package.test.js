// The package as npm delivers it: installed into fresh projects of every kind, checked by the tools that know what breaks
// there, documented, and small.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { publint } from "publint";
import { build } from "vite";

const here = fileURLToPath(new URL("..", import.meta.url));
const require = createRequire(import.meta.url);
const bound = { timeout: 120_000 };

// The size of everything in the package, minified and compressed.
const budget = 13 * 1024;

let folder, tarball;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "rollcall-sdk-"));
  const [{ filename }] = JSON.parse(execFileSync("npm", ["pack", "--json", "--silent", "--ignore-scripts", "--pack-destination", folder], { cwd: here }));
  tarball = join(folder, filename);
});

after(() => rmSync(folder, { recursive: true, force: true }));

// project makes a fresh project with the package installed and some files in it.
function project(name, manifest, files) {
  const root = join(folder, name);
  mkdirSync(root);
  writeFileSync(join(root, "package.json"), JSON.stringify({ name, private: true, ...manifest }));
  execFileSync("npm", ["install", "--silent", "--no-audit", "--no-fund", "--offline", tarball], { cwd: root });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(root, file), text);
  return root;
}

// run runs a tool of this workspace and returns what it printed; it must succeed.
function run(cwd, ...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd, encoding: "utf8" });
  assert.equal(status, 0, `${args.join(" ")}:\n${stdout}${stderr}`);
  return stdout;
}

const use = `
const client = new RollcallClient({ appId: "app", host: "http://127.0.0.1:9", storage: "memory" });
const user = new Rollcall.User("ada", "Ada");
console.log(user.getUid(), client.connectionState, typeof Rollcall.init);
`;

test("ES modules and CommonJS", bound, () => {
  const esm = project("esm", { type: "module" }, { "main.js": `import { Rollcall, RollcallClient } from "@rollcall/sdk";${use}` });
  const cjs = project("cjs", {}, { "main.js": `const { Rollcall, RollcallClient } = require("@rollcall/sdk");${use}` });
  for (const root of [esm, cjs]) assert.equal(run(root, "main.js"), "ada disconnected function\n");
});

test("tsc --strict, for both", bound, () => {
  const source = `
import { Rollcall, RollcallClient, type PresenceStatus, type StoredUser, type User } from "@rollcall/sdk";
const listener: Rollcall.UserListener = new Rollcall.UserListener({ onUserOnline: (user: User) => console.log(user.getName()) });
Rollcall.addUserListener("id", listener);
export async function list(client: RollcallClient): Promise<string[]> {
  const names: string[] = [];
  for await (const user of client.users.all({ search: "a", sortBy: "name" }, { signal: AbortSignal.timeout(1000) })) names.push(user.name);
  client.on("presence", ({ status }: { status: PresenceStatus }) => console.log(status.uid));
  const end: () => void = client.presence.follow(({ status }) => status === "online" || status === "away" || status === "busy" || status === "offline");
  // @ts-expect-error it is called online
  client.presence.setStatus({ status: "available" });
  client.presence.setStatus({ status: "online" });
  client.on("friend", ({ change, uid, byMe }) => console.log(change === "requested", uid, byMe));
  console.log((await client.friends.ask(["bob"]))["bob"]?.code);
  const { users: [user] } = await client.friends.requests({ direction: "sent" });
  if (user) console.log(new Date(user.createdAt * 1000), new Date((user.updatedAt ?? user.createdAt) * 1000), user.role.length, user.conversationId, user.blockedByMeAt);
  const me: StoredUser | undefined = client.me;
  console.log(me?.createdAt.toFixed(), (await client.settings()).CHAT_API_VERSION.length);
  end();
  return names;
}
export async function classic(): Promise<Rollcall.User[]> {
  await Rollcall.init("app", new Rollcall.AppSettingsBuilder().setHost("https://chat.example.com").build());
  const user = new Rollcall.User("ada");
  // @ts-expect-error the uid is fixed at creation
  user.uid = "bob";
  // @ts-expect-error the server says who is online
  user.status = "online";
  await Rollcall.createUser(user, "key");
  return new Rollcall.UsersRequestBuilder().setLimit(30).build().fetchNext();
}
`;
  for (const [name, type] of [["strict-esm", "module"], ["strict-cjs", "commonjs"]]) {
    const options = { strict: true, noEmit: true, module: "nodenext", target: "es2022", lib: ["es2022", "dom"], types: [], exactOptionalPropertyTypes: true };
    const root = project(name, { type }, { "main.ts": source, "tsconfig.json": JSON.stringify({ compilerOptions: options, include: ["main.ts"] }) });
    run(root, require.resolve("typescript/bin/tsc"), "--project", root);
  }
});

test("Vite, within the size budget", bound, async () => {
  const all = `import * as sdk from "@rollcall/sdk"; globalThis.sdk = sdk;`;
  const root = project("vite", { type: "module" }, { "index.html": `<script type="module" src="/main.js"></script>`, "main.js": all });
  await build({ root, logLevel: "error", build: { target: "es2022", modulePreload: false } });
  const assets = join(root, "dist/assets");
  const [script] = readdirSync(assets).filter((name) => name.endsWith(".js"));
  const size = gzipSync(readFileSync(join(assets, script)), { level: 9 }).length;
  assert.ok(size <= budget, `${size} bytes of ${budget}`);
});

test("one script for a page, within the size budget", bound, () => {
  const text = readFileSync(join(here, "dist/rollcall.js"));
  const page = run(here, "--eval", `${text}\nconsole.log(typeof Rollcall.login, typeof RollcallClient)`);
  assert.equal(page, "function function\n");
  const size = gzipSync(text, { level: 9 }).length;
  assert.ok(size <= budget, `${size} bytes of ${budget}`);
});

test("attw finds nothing", bound, () => {
  run(here, join(dirname(require.resolve("@arethetypeswrong/cli/package.json")), "dist/index.js"), tarball, "--no-emoji");
});

test("publint finds nothing", bound, async () => {
  const { messages } = await publint({ pkgDir: here, strict: true });
  assert.deepEqual(messages, []);
});

test("every public symbol is documented", bound, () => {
  run(here, join(dirname(require.resolve("typedoc/package.json")), "bin/typedoc"), "--emit", "none", "--treatWarningsAsErrors");
});

test("nothing is shipped that is not needed", () => {
  const listed = execFileSync("tar", ["-tzf", tarball], { encoding: "utf8" }).trim().split("\n");
  const foreign = listed.filter((path) => !/^package\/(package\.json|README\.md|LICENSE|dist\/rollcall\.js|dist\/(esm|cjs)\/[\w-]+\.(js|d\.ts)|dist\/cjs\/package\.json)$/.test(path));
  assert.deepEqual(foreign, []);
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  assert.deepEqual([dependencies, peerDependencies], [undefined, undefined]);
});
