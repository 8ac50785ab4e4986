// The modern client in Node, over real sockets to the real server.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { Rollcall as Classic, RollcallClient, RollcallError, User } from "@rollcall/sdk";

import { listen } from "../../e2e/program.js";
import { Proxy } from "../../e2e/proxy.js";
import { Rollcall } from "../../e2e/server.js";
import { until } from "../../e2e/wait.js";

let rollcall;

before(async () => {
  rollcall = await Rollcall.start();
});

after(async () => {
  await rollcall?.stop();
});

const bound = { timeout: 60_000 };

// What the server could have minted, and has not.
const unknownToken = `nobody_${"0".repeat(40)}`;

// Person is a client that is logged in, and what it has been told.
class Person {
  heard = [];
  states = [];
  ends = [];

  static async enter(context, uid, options = {}) {
    await rollcall.createUser(uid).catch(() => {}); // it may be there already
    const person = new Person(context, options);
    person.user = await person.client.login({ token: await rollcall.mint(uid) });
    if (options.autoConnect !== false) await person.becomes("connected");
    return person;
  }

  constructor(context, options = {}) {
    this.client = new RollcallClient({ appId: rollcall.appId, host: `http://${rollcall.http}`, storage: "memory", ...options });
    this.client.on("presence", ({ status, initial }) => this.heard.push(`${status.uid} ${status.status}${status.statusText ? ` ${status.statusText}` : ""}${initial ? " already" : ""}`));
    this.client.on("connection", ({ state }) => this.states.push(state));
    this.client.on("loggedOut", ({ reason, error }) => this.ends.push(`${reason} ${error?.code ?? ""}`.trim()));
    context.after(() => this.client.close());
  }

  becomes(state) {
    return until(`the connection is ${state}`, () => this.client.connectionState === state);
  }

  // hears waits until these have been told of the people of the test, whose uids begin alike.
  async hears(...expected) {
    const prefix = `${this.user.uid.split("-")[0]}-`;
    const own = () => this.heard.filter((line) => line.startsWith(prefix));
    await until(`${expected} is heard`, () => own().length >= expected.length, 30_000).catch((error) => {
      throw new Error(`${error.message}: heard ${this.heard}`);
    });
    assert.deepEqual(own(), expected);
    this.heard = [];
  }
}

test("a session, from login to logout", bound, async (context) => {
  await rollcall.createUser("s-ada", { role: "default", statusMessage: "hello" });
  const client = new Person(context, { autoConnect: false }).client;
  assert.equal(client.me, undefined);
  await assert.rejects(client.users.get("s-ada"), { code: "USER_NOT_LOGED_IN" });
  const logins = [];
  client.on("loggedIn", (user) => logins.push(user.uid));
  const ada = await client.login({ uid: "s-ada", authKey: rollcall.authKey });
  assert.ok(ada instanceof User);
  assert.deepEqual([ada.getUid(), ada.getStatus(), ada.statusMessage], ["s-ada", "online", "hello"]);
  const changed = await client.updateMe({ name: "Ada L.", role: "admin", tags: ["x"], metadata: { a: 1 } });
  assert.deepEqual([changed.name, changed.role, changed.tags, changed.metadata], ["Ada L.", "default", ["x"], { a: 1 }]);
  assert.equal((await rollcall.user("s-ada")).name, "Ada L.");
  assert.equal(client.me.name, "Ada L.");
  assert.equal((await client.settings()).CHAT_API_VERSION, "v3.0");
  assert.match(await client.jwt({ for: "calls" }), /^eyJ/);
  assert.equal((await client.login({ uid: "s-ada", authKey: "is not looked at" })).uid, "s-ada");
  assert.equal((await client.logout()).success, true);
  assert.equal(client.me, undefined);
  assert.deepEqual(await rollcall.tokens("s-ada"), []);
  assert.deepEqual(logins, ["s-ada"]);
  await assert.rejects(client.logout(), { code: "USER_NOT_LOGED_IN" });
});

test("refusals have the server's code, and wrong input goes nowhere", bound, async (context) => {
  const { client } = await Person.enter(context, "r-ada", { autoConnect: false });
  const failures = [];
  client.on("loginFailed", (error) => failures.push(error.code));
  await assert.rejects(client.users.get("nobody"), (error) => error instanceof RollcallError && error.code === "ERR_UID_NOT_FOUND" && error.status === 404 && JSON.parse(JSON.stringify(error)).message === error.message);
  await assert.rejects(client.users.create({ uid: "no good", name: "x" }, rollcall.authKey), (error) => error.code === "ERR_BAD_REQUEST" && error.details.uid.length === 1);
  await assert.rejects(client.login({ token: unknownToken }), { code: "AUTH_ERR_AUTH_TOKEN_NOT_FOUND", status: 401 });
  await assert.rejects(client.login({ uid: "nobody-at-all", authKey: rollcall.authKey }), { code: "ERR_UID_NOT_FOUND" });
  assert.deepEqual(failures, ["AUTH_ERR_AUTH_TOKEN_NOT_FOUND", "ERR_UID_NOT_FOUND"]);
  const both = await Promise.allSettled([client.login({ token: await rollcall.mint("r-ada") }), client.login({ token: "x" })]);
  assert.deepEqual([both[0].status, both[1].reason.name], ["fulfilled", "LOGIN_IN_PROGRESS"]);
  const local = [
    [() => client.users.get(""), "INVALID_UID"], [() => client.users.create({ uid: "x", name: "x" }, ""), "INVALID_AUTH_KEY"],
    [() => client.users.create({ name: "x" }, "k"), "UID_IS_COMPULSORY"], [() => client.users.create({ uid: "x" }, "k"), "USER_NAME_IS_COMPULSORY"],
    [() => client.users.create({ uid: "x", name: "x", avatar: "" }, "k"), "INVALID_USER_AVATAR"],
    [() => client.users.create({ uid: "x", name: "x", tags: [] }, "k"), "INVALID_USER_TAGS"], [() => client.blocks.add([]), "EMPTY_USERS_LIST"],
    [() => client.blocks.add("x"), "INVALID_USER_LIST"], [() => client.updateMe({ name: "" }), "INVALID_USER_NAME"],
  ];
  for (const [call, code] of local) await assert.rejects(async () => call(), { code, status: undefined });
  assert.throws(() => new RollcallClient({ appId: "", host: "http://127.0.0.1" }), { code: "MISSING_PARAMETERS" });
  const nowhere = new RollcallClient({ appId: "app", host: "http://127.0.0.1:9", storage: "memory" });
  await assert.rejects(nowhere.login({ token: unknownToken }), { code: "FAILED_TO_FETCH" });
  const abort = new AbortController();
  abort.abort(new Error("changed my mind"));
  await assert.rejects(client.users.list({}, { signal: abort.signal }), { message: "changed my mind" });
});

test("a login with what can be no token is refused in words, and asks nobody", bound, async (context) => {
  let calls = 0;
  const fetch = () => void calls++;
  const { client } = new Person(context, { fetch });
  const failures = [];
  client.on("loginFailed", (error) => failures.push(error.code));
  const refused = [
    ["a", "MISSING_PARAMETERS", /Pass \{ token \}/], [undefined, "MISSING_PARAMETERS", /Pass \{ token \}/], [{}, "MISSING_PARAMETERS", /\{ uid, authKey \}/],
    [{ token: undefined }, "MISSING_PARAMETERS", /which your backend mints/], [{ token: " " }, "MISSING_PARAMETERS", /token/], [{ uid: "ada" }, "MISSING_PARAMETERS", /auth key/],
    [{ token: "a" }, "AUTH_ERR_AUTH_TOKEN_NOT_FOUND", /cannot be an auth token.*POST \/v3\/users\/\{uid\}\/auth_tokens/],
    [{ token: rollcall.authKey }, "AUTH_ERR_AUTH_TOKEN_NOT_FOUND", /like an API key/], [{ token: "eyJhbGciOiJIUzI1NiJ9.e30.c2ln" }, "AUTH_ERR_AUTH_TOKEN_NOT_FOUND", /like a JWT/],
    [{ token: `${unknownToken}\n` }, "AUTH_ERR_AUTH_TOKEN_NOT_FOUND", /cannot be/], [{ token: { authToken: unknownToken } }, "MISSING_PARAMETERS", /token/],
  ];
  for (const [credentials, code, message] of refused) {
    await assert.rejects(client.login(credentials), (error) => error instanceof RollcallError && error.code === code && message.test(error.message), JSON.stringify(credentials));
  }
  assert.deepEqual([calls, failures.length], [0, refused.length]);
  await Classic.init(rollcall.appId, new Classic.AppSettingsBuilder().setHost(`http://${rollcall.http}`).setStorageMode("memory").build());
  await assert.rejects(Classic.login("a"), { code: "AUTH_ERR_AUTH_TOKEN_NOT_FOUND", status: undefined });
});

test("why the server cannot be reached is said, and the platform's error kept", bound, async (context) => {
  const failing = async (host, options) => {
    const calls = [];
    const counted = (url, request) => (calls.push(url), fetch(url, request));
    const { client } = new Person(context, { host, fetch: counted, ...options });
    const error = await client.login({ token: unknownToken }).then(() => undefined, (error) => error);
    assert.equal(error.code, "FAILED_TO_FETCH");
    return { error, calls: calls.length };
  };
  const selfSigned = await failing(`https://${rollcall.https}`);
  assert.match(selfSigned.error.message, /certificate of https:\/\/127\.0\.0\.1:\d+ is not trusted.*self-signed \(DEPTH_ZERO_SELF_SIGNED_CERT\).*NODE_EXTRA_CA_CERTS/);
  assert.deepEqual([selfSigned.error.name, selfSigned.error.cause.cause.code, selfSigned.calls], ["CERTIFICATE_NOT_TRUSTED", "DEPTH_ZERO_SELF_SIGNED_CERT", 1]);
  assert.match((await failing(`https://${rollcall.http}`)).error.message, /does not speak TLS.*http:\/\//);
  const gone = createServer();
  const address = await listen(gone);
  await new Promise((resolve) => gone.close(resolve));
  const nobody = await failing(`http://${address}`);
  assert.match(nobody.error.message, /ECONNREFUSED.*Nobody listens at http:\/\/127\.0\.0\.1:\d+: is Rollcall running/);
  assert.equal(nobody.error.cause.cause.code, "ECONNREFUSED");
  assert.match((await failing("http://no-such-host.invalid")).error.message, /Is the host right/);

  // What is advised works, for calls and for the socket.
  const script = `fetch("https://${rollcall.https}/healthz").then(({ status }) => console.log(status))`;
  const trusting = { ...process.env, NODE_EXTRA_CA_CERTS: join(rollcall.data, "tls/cert.pem") };
  assert.equal((await promisify(execFile)(process.execPath, ["--eval", script], { env: trusting })).stdout, "200\n");

  if (globalThis.WebSocket) return; // a platform's own says nothing
  const direct = (url, request) => fetch(url.replace(`https://${rollcall.https}`, `http://${rollcall.http}`), request);
  const ada = await Person.enter(context, "f-ada", { host: `https://${rollcall.https}`, fetch: direct, autoConnect: false });
  const closed = new Promise((resolve) => ada.client.on("connection", (detail) => detail.closed && resolve(detail.closed)));
  ada.client.connect();
  assert.match((await closed).reason, /is not trusted.*DEPTH_ZERO_SELF_SIGNED_CERT/);
});

test("what a backend changes of the user reaches me, at once or with the next connection", bound, async (context) => {
  const ada = await Person.enter(context, "g-ada");
  const profiles = [];
  ada.client.on("profile", (user) => profiles.push(user.name));
  const named = (name) => until(`me is called ${name}`, () => ada.client.me.name === name);
  await rollcall.rest("PUT", "/users/g-ada", { name: "Renamed" });
  await named("Renamed");
  await rollcall.rest("PUT", "/users/g-ada", { metadata: { "@private": { crm: 1 } } });
  await rollcall.rest("POST", "/roles", { role: "g-role", name: "Role" });
  await rollcall.rest("PUT", "/users/g-ada", { role: "g-role" });
  await until("the role has come", () => ada.client.me.role === "g-role");
  ada.client.disconnect();
  await rollcall.rest("PUT", "/users/g-ada", { name: "Renamed meanwhile" });
  ada.client.connect();
  await named("Renamed meanwhile");
  await ada.client.updateMe({ name: "By herself" });
  await rollcall.rest("PUT", "/users/g-ada", { name: "At last" });
  await named("At last");
  assert.deepEqual(profiles, ["Renamed", "Renamed", "Renamed meanwhile", "By herself", "At last"]);
  assert.ok(ada.client.me.createdAt > 0 && ada.client.me.updatedAt >= ada.client.me.createdAt);
});

test("friends: ask, accept, refuse, withdraw, remove, and who hears of it", bound, async (context) => {
  const [ada, bob, cy] = await Promise.all(["ada", "bob", "cy"].map((name) => Person.enter(context, `fr-${name}`)));
  const told = new Map([ada, bob, cy].map(({ client }) => [client, []]));
  for (const [client, lines] of told) client.on("friend", ({ change, uid, byMe }) => lines.push(`${change} ${uid}${byMe ? " by me" : ""}`));
  const hears = async ({ client }, ...lines) => {
    await until(`${lines} is told`, () => told.get(client).length >= lines.length);
    assert.deepEqual(told.get(client).splice(0), lines);
  };
  const uids = ({ users }) => users.map(({ uid }) => uid);
  const asked = await ada.client.friends.ask(["fr-bob", "fr-cy", "fr-nobody"]);
  assert.deepEqual([asked["fr-bob"].success, asked["fr-nobody"].success, asked["fr-nobody"].code], [true, false, "ERR_UID_NOT_FOUND"]);
  await hears(ada, "requested fr-bob by me", "requested fr-cy by me");
  await hears(bob, "requested fr-ada");
  assert.deepEqual(uids(await ada.client.friends.requests({ direction: "sent", limit: 1, page: 2 })), ["fr-cy"]);
  assert.deepEqual(uids(await bob.client.friends.requests()), ["fr-ada"]);
  assert.equal((await bob.client.friends.accept(["fr-ada"]))["fr-ada"].success, true);
  assert.equal((await bob.client.friends.accept(["fr-cy"]))["fr-cy"].code, "ERR_FRIEND_REQUEST_NOT_FOUND");
  assert.equal((await cy.client.friends.refuse(["fr-ada"]))["fr-ada"].success, true);
  await hears(ada, "added fr-bob", "refused fr-cy");
  await cy.client.friends.ask(["fr-ada"]);
  assert.equal((await cy.client.friends.withdraw(["fr-ada"]))["fr-ada"].success, true);
  await hears(ada, "requested fr-cy", "withdrawn fr-cy");
  const friends = [];
  for await (const user of ada.client.friends.all()) friends.push(user.uid);
  assert.deepEqual([friends, uids(await bob.client.friends.list({ search: "fr-a" })), (await bob.client.friends.list({ search: "x" })).total], [["fr-bob"], ["fr-ada"], 0]);
  assert.equal((await ada.client.friends.ask(["fr-bob"]))["fr-bob"].code, "ERR_ALREADY_FRIEND");
  assert.equal((await ada.client.friends.remove(["fr-bob"])).success, true);
  await hears(bob, "added fr-ada by me", "removed fr-ada");
  assert.deepEqual(uids(await ada.client.friends.list()), []);
  await assert.rejects(async () => ada.client.friends.ask("fr-bob"), { code: "INVALID_USER_LIST" });
});

test("who follows late is told who is there, and misses nobody", bound, async (context) => {
  const ada = await Person.enter(context, "la-ada", { subscribe: { uids: ["la-bob", "la-cy"] } });
  const early = [];
  ada.client.presence.follow(({ uid, status }) => early.push(`${uid} ${status}`));
  const bob = await Person.enter(context, "la-bob");
  await ada.hears("la-bob online");
  const late = [];
  const end = ada.client.presence.follow(({ uid, status, user }) => late.push(`${uid} ${status} ${user?.status}`));
  assert.deepEqual(late, ["la-bob online online"], "it is told at once");
  bob.client.presence.setStatus({ status: "away" });
  await ada.hears("la-bob away");
  await Person.enter(context, "la-cy");
  await ada.hears("la-cy online");
  assert.deepEqual(late, ["la-bob online online", "la-bob away online", "la-cy online online"]);
  assert.deepEqual(early, ["la-bob online", "la-bob away", "la-cy online"]);
  end();
  bob.client.disconnect();
  await ada.hears("la-bob offline");
  assert.equal(late.length, 3);
  assert.throws(() => bob.client.presence.setStatus({ status: "available" }), { code: "INVALID_STATUS_VALUE" });
  assert.deepEqual((await ada.client.presence.query(["la-cy"])).map(({ status }) => status), ["online"]);
});

test("lists, pages, iterators, blocks", bound, async (context) => {
  const rows = Array.from({ length: 125 }, (_, i) => ({ uid: `l-${String(i).padStart(3, "0")}`, name: `Lister ${i}`, tags: i % 2 ? ["odd, really"] : ["even"] }));
  await rollcall.rest("POST", "/users/batch", { users: rows });
  const { client } = await Person.enter(context, "l-me", { autoConnect: false });
  const page = await client.users.list({ search: "lister", limit: 50, page: 3, sortBy: "name" });
  assert.deepEqual([page.users.length, page.page, page.pages, page.total], [25, 3, 3, 125]);
  assert.equal((await client.users.list({ tags: ["odd, really"], withTags: true, limit: 1 })).total, 62);
  const seen = new Set();
  for await (const user of client.users.all({ search: "l-", searchIn: ["uid"] })) seen.add(user.uid);
  assert.equal(seen.size, 125);
  const offline = [];
  for await (const user of client.users.all({ uids: ["l-001", "l-002"], status: "offline" })) offline.push(user.uid);
  assert.deepEqual(offline.sort(), ["l-001", "l-002"]);
  const blocked = await client.blocks.add(["l-001", "nobody"]);
  assert.deepEqual([blocked["l-001"].success, blocked["l-001"].code, blocked.nobody.code], [true, undefined, "ERR_UID_NOT_FOUND"]);
  assert.equal((await client.users.get("l-001")).blockedByMe, true);
  assert.deepEqual((await client.blocks.list({ direction: "blockedByMe" })).users.map(({ uid }) => uid), ["l-001"]);
  assert.equal((await client.users.list({ uids: ["l-001"], hideBlockedUsers: true })).total, 0);
  assert.equal((await client.blocks.remove(["l-001"]))["l-001"].success, true);
  const made = await client.users.create({ uid: "l-Made", name: "Made" }, rollcall.authKey);
  assert.equal(made.uid, "l-made");
  const renamed = new User("l-me", "Myself");
  assert.equal((await client.users.update(renamed, rollcall.authKey)).name, "Myself");
  assert.equal(client.me.name, "Myself", "the login is kept up");
});

test("lists by metadata", bound, async (context) => {
  const { managementKey, managementSecret } = JSON.parse(await readFile(rollcall.credentialsFile, "utf8"));
  const settings = async (body) => {
    const headers = { key: managementKey, secret: managementSecret, "content-type": "application/json" };
    return (await (await fetch(`http://${rollcall.http}/v3/apps/${rollcall.appId}/settings`, { method: body ? "POST" : "GET", headers, body })).json()).data;
  };
  await rollcall.createUser("m-lisbon", { metadata: { city: "Lisbon & more", team: ["a", "b"] } });
  await rollcall.createUser("m-porto", { metadata: { city: "Porto", team: ["b"] } });
  await settings(JSON.stringify({ metadataKeys: ["city", "team"] }));
  await until("the keys are indexed", async () => (await settings()).metadataKeys?.length === 2);
  const { client } = await Person.enter(context, "m-me", { autoConnect: false });
  const found = async (metadata) => (await client.users.list({ metadata, sortBy: "name" })).users.map(({ uid }) => uid);
  assert.deepEqual(await found({ city: "Lisbon & more" }), ["m-lisbon"]);
  assert.deepEqual(await found({ city: ["Porto", "Lisbon & more"], team: "b" }), ["m-lisbon", "m-porto"]);
  await assert.rejects(found({ age: "17" }), { code: "ERR_BAD_REQUEST" });
});

test("presence: who comes, goes, is away and is busy", bound, async (context) => {
  const bob = await Person.enter(context, "p-bob", { subscribe: "all" });
  const ada = await Person.enter(context, "p-ada", { subscribe: { uids: ["p-bob"] } });
  await ada.hears("p-bob online already");
  await bob.hears("p-ada online");
  assert.equal(ada.client.presence.online.get("p-bob").user.name, "p-bob");
  const events = bob.client.presence.events({ signal: AbortSignal.timeout(30_000) });
  assert.deepEqual(await events.next().then(({ value }) => [value.uid, value.status, value.user.name]), ["p-ada", "online", "p-ada"]);
  const next = events.next();
  ada.client.presence.setStatus({ status: "busy", statusText: "In a meeting" });
  assert.equal((await next).value.statusText, "In a meeting");
  await events.return();
  await bob.hears("p-ada busy In a meeting");
  assert.deepEqual((await bob.client.presence.query(["p-ada"])).map(({ status }) => status), ["busy"]);
  assert.ok((await bob.client.presence.count()) >= 2);
  ada.client.disconnect();
  await bob.hears("p-ada offline");
  assert.deepEqual([ada.client.connectionState, ada.client.presence.online.size], ["disconnected", 0]);
  assert.notEqual(ada.client.me, undefined);
});

test("who comes back is busy as before, with the text", bound, async (context) => {
  const line = await Proxy.start(rollcall.http);
  context.after(() => line.stop());
  const bob = await Person.enter(context, "w-bob", { subscribe: "all" });
  const ada = await Person.enter(context, "w-ada", { host: `http://${line.host}` });
  ada.client.presence.setStatus({ status: "busy", statusText: "In a meeting" });
  await until("ada is busy", () => bob.heard.includes("w-ada busy In a meeting"));
  bob.heard = [];
  line.cut();
  await ada.becomes("disconnected");
  await Person.enter(context, "w-mark");
  line.mend();
  await ada.becomes("connected");
  ada.client.disconnect();
  await bob.hears("w-mark online", "w-ada offline");
});

test("a status that has ended does not come back", bound, async (context) => {
  const bob = await Person.enter(context, "e-bob", { subscribe: "all" });
  const ada = await Person.enter(context, "e-ada");
  await bob.hears("e-ada online");
  ada.client.presence.setStatus({ status: "away" });
  await bob.hears("e-ada away");
  ada.client.presence.setStatus({ status: "busy", expiresAt: Math.floor(Date.now() / 1000) });
  ada.client.disconnect();
  await bob.hears("e-ada offline");
  ada.client.connect();
  await bob.hears("e-ada away");
});

test("who is not heard of any more is told as offline, to the client alone", bound, async (context) => {
  await Person.enter(context, "o-bob");
  await Person.enter(context, "o-cy");
  const ada = await Person.enter(context, "o-ada", { subscribe: { uids: ["o-bob", "o-cy"] } });
  const inAnyOrder = async (...expected) => {
    await until(`${expected} is heard`, () => ada.heard.length >= expected.length);
    assert.deepEqual(ada.heard.splice(0).sort(), expected);
  };
  await inAnyOrder("o-bob online already", "o-cy online already");
  ada.client.presence.subscribe({ uids: ["o-cy"] });
  await inAnyOrder("o-bob offline already");
  assert.deepEqual([...ada.client.presence.online.keys()], ["o-cy"]);
  ada.client.presence.subscribe("none");
  await inAnyOrder("o-cy offline already");
});

test("what happened between disconnect and connect is told", bound, async (context) => {
  const ada = await Person.enter(context, "c-ada", { subscribe: { uids: ["c-goes", "c-comes"] } });
  const goes = await Person.enter(context, "c-goes");
  await ada.hears("c-goes online");
  ada.client.disconnect();
  goes.client.disconnect();
  await Person.enter(context, "c-comes");
  ada.client.connect();
  await until("both are told", () => ada.heard.length >= 2);
  assert.deepEqual(ada.heard.sort(), ["c-comes online", "c-goes offline"]);
});

test("what comes late changes nothing", bound, async (context) => {
  let release;
  const held = new Promise((resolve) => (release = resolve));
  const slow = async (url, request) => {
    if (request.method === "PUT" && request.body.includes("Late")) await held;
    return fetch(url, request);
  };
  const { client } = await Person.enter(context, "t-late", { autoConnect: false, fetch: slow });
  const late = client.updateMe({ name: "Late" });
  const other = await rollcall.mint("t-late");
  await client.login({ token: other }); // the call still runs under the first token
  await client.logout();
  release();
  assert.equal((await late).name, "Late");
  assert.equal(client.me, undefined, "an answer does not bring a session back");

  const closed = new Person(context).client;
  const login = closed.login({ token: await rollcall.mint("t-late") });
  closed.close();
  await assert.rejects(login, { name: "CLOSED" });
  assert.equal(closed.connectionState, "disconnected");
  assert.throws(() => closed.connect(), { code: "USER_NOT_LOGED_IN" });
});

test("nobody inherits how the last one presented itself", bound, async (context) => {
  await rollcall.createUser("i-second");
  const { client } = await Person.enter(context, "i-first");
  client.presence.setStatus({ status: "busy", statusText: "At the doctor" });
  await until("the status is known", async () => (await rollcall.rest("GET", "/users/i-first/presence")).status === "busy");
  await client.logout();
  await client.login({ token: await rollcall.mint("i-second") });
  await until("the second is there", async () => (await rollcall.rest("GET", "/users/i-second/presence")).devices.length === 1);
  assert.equal((await rollcall.rest("GET", "/users/i-second/presence")).devices[0].status, "available");
});

test("a subscription that is refused ends the attempts and says why", bound, async (context) => {
  const uids = Array.from({ length: 10_001 }, (_, i) => `nobody-${i}`);
  const person = await Person.enter(context, "x-ada", { autoConnect: false });
  const ended = new Promise((resolve) => person.client.on("connection", ({ closed }) => closed && resolve(closed)));
  person.client.presence.subscribe({ uids });
  person.client.connect();
  assert.match((await ended).reason, /10000|10,000/);
  assert.equal(person.client.connectionState, "disconnected");
  person.client.presence.subscribe("none");
  person.client.connect();
  await person.becomes("connected");
});

test("iterations begin at once, and end with their loop, their signal and the client", bound, async (context) => {
  const { client } = await Person.enter(context, "e-ada", { subscribe: "all" });
  const [first, second, third] = [client.presence.events(), client.presence.events({ signal: AbortSignal.timeout(2000) }), client.presence.events()];
  const other = await Person.enter(context, "e-bob");
  while ((await first.next()).value.uid !== "e-bob"); // others' tests may still be on their way out
  const waiting = [first.next(), first.next()];
  await first.return();
  assert.deepEqual((await Promise.all(waiting)).map(({ done }) => done), [true, true]);
  const heard = [];
  for await (const { uid } of second) heard.push(uid);
  assert.ok(heard.includes("e-bob"));
  client.close();
  assert.equal((await third.next()).done, true);
  other.client.close();
});

test("an answer that is not Rollcall's keeps its status", bound, async (context) => {
  const { client } = await Person.enter(context, "n-ada", { autoConnect: false });
  const page = new RollcallClient({ appId: "app", host: "http://127.0.0.1:9", storage: "memory", fetch: async () => new Response("<h1>Not here</h1>", { status: 404 }) });
  await assert.rejects(page.login({ token: unknownToken }), { code: "ERR_UNKNOWN", status: 404 });
  assert.notEqual(client.me, undefined);
});

test("a revoked token ends in one loggedOut, with and without a connection", bound, async (context) => {
  const ada = await Person.enter(context, "v-ada");
  const idle = await Person.enter(context, "v-idle", { autoConnect: false });
  await rollcall.rest("DELETE", "/users/v-ada/auth_tokens");
  await until("ada is logged out", () => ada.ends.length > 0);
  assert.equal(ada.client.me, undefined);
  await rollcall.rest("DELETE", "/users/v-idle/auth_tokens");
  await Promise.allSettled([idle.client.users.list(), idle.client.users.list()]);
  assert.deepEqual([ada.ends, idle.ends], [["revoked AUTH_ERR_AUTH_TOKEN_NOT_FOUND"], ["revoked AUTH_ERR_AUTH_TOKEN_NOT_FOUND"]]);
  const gone = await Person.enter(context, "v-gone");
  await rollcall.rest("DELETE", "/users/v-gone", { permanent: false });
  await until("a deactivated user is logged out", () => gone.ends.length > 0);
  assert.equal(gone.ends.length, 1);
});

test("a connection that breaks comes back and tells what was missed", bound, async (context) => {
  const line = await Proxy.start(rollcall.http);
  context.after(() => line.stop());
  const stays = await Person.enter(context, "b-stays");
  const goes = await Person.enter(context, "b-goes");
  const ada = await Person.enter(context, "b-ada", { host: `http://${line.host}`, subscribe: "all" });
  await until("everybody is told", () => ada.heard.filter((text) => text.startsWith("b-")).length === 2);
  ada.heard = [];
  line.cut();
  await ada.becomes("disconnected");
  goes.client.disconnect();
  await Person.enter(context, "b-comes");
  line.mend();
  await ada.becomes("connected");
  await until("both are told", () => ada.heard.filter((text) => text.startsWith("b-")).length >= 2);
  assert.deepEqual(ada.heard.filter((text) => text.startsWith("b-")).sort(), ["b-comes online", "b-goes offline"]);
  assert.equal(stays.client.connectionState, "connected");
});

describe("what takes its time", { concurrency: true }, () => {
  test("others are not told of another subscription or a fresh token, however late", bound, async (context) => {
    const line = await Proxy.start(rollcall.http);
    context.after(() => line.stop());
    const direct = (url, request) => fetch(url.replace(line.host, rollcall.http), request);
    const bob = await Person.enter(context, "h-bob", { subscribe: "all" });
    const ada = await Person.enter(context, "h-ada", { host: `http://${line.host}`, fetch: direct });
    await bob.hears("h-ada online");
    const lastNoted = async () => (await rollcall.rest("GET", "/users/h-ada/presence/timeline"))[0]?.status;
    const changes = [
      () => ada.client.presence.subscribe("all"),
      () => ada.client.presence.subscribe({ uids: ["h-bob"] }),
      async () => ada.client.login({ token: await rollcall.mint("h-ada") }),
    ];
    for (const [n, change] of changes.entries()) {
      line.refuse();
      await change();
      await until("the server has noted that ada's socket is closed", async () => (await lastNoted()) === "offline");
      await Person.enter(context, `h-mark-${n}`);
      await bob.hears(`h-mark-${n} online`);
      line.mend();
      await ada.becomes("connected");
      await until("the server has noted that she is back", async () => (await lastNoted()) === "available");
    }
    await Person.enter(context, "h-end");
    await bob.hears("h-end online");
    ada.client.disconnect();
    await bob.hears("h-ada offline");
  });

  test("a network that goes silent is noticed", { timeout: 90_000 }, async (context) => {
    const line = await Proxy.start(rollcall.http);
    context.after(() => line.stop());
    const ada = await Person.enter(context, "q-ada", { host: `http://${line.host}` });
    line.silence();
    await until("the silence is noticed", () => ada.states.includes("disconnected"), 40_000);
    line.mend();
    await ada.becomes("connected");
  });

  test("a pong that does not come is not told to others", { timeout: 90_000 }, async (context) => {
    const line = await Proxy.start(rollcall.http);
    context.after(() => line.stop());
    const bob = await Person.enter(context, "y-bob", { subscribe: "all" });
    const ada = await Person.enter(context, "y-ada", { host: `http://${line.host}` });
    await bob.hears("y-ada online");
    line.muteServer(); // what ada sends still arrives, how it closes too
    await until("the silence is noticed", () => ada.states.includes("disconnected"), 40_000);
    line.mend();
    await ada.becomes("connected");
    await Person.enter(context, "y-mark");
    await bob.hears("y-mark online");
  });
});

test("a restart of the server is survived", bound, async (context) => {
  const ada = await Person.enter(context, "z-ada", { subscribe: "all" });
  const bob = await Person.enter(context, "z-bob");
  await ada.hears("z-bob online");
  await rollcall.pause();
  await ada.becomes("disconnected");
  await rollcall.resume();
  await ada.becomes("connected");
  await bob.becomes("connected");
  bob.client.disconnect();
  await until("bob's leave is told", () => ada.heard.includes("z-bob offline"));
  assert.equal(ada.heard.filter((text) => text === "z-bob offline").length, 1, ada.heard.join());
});

test("a thousand connections leave nothing behind", { timeout: 120_000 }, async (context) => {
  const { client } = await Person.enter(context, "k-ada", { autoConnect: false });
  const round = async () => {
    const connected = new Promise((resolve) => {
      const off = client.on("connection", ({ state }) => state === "connected" && (off(), resolve()));
    });
    client.connect();
    await connected;
    client.disconnect();
  };
  const heap = () => {
    global.gc();
    return process.memoryUsage().heapUsed;
  };
  for (let i = 0; i < 100; i++) await round();
  const before = heap();
  for (let i = 0; i < 1000; i++) await round();
  await until("the sockets are closed", () => heap() < before + 2e6);
  await until("the server has let go of them", async () => (await rollcall.rest("GET", "/users/k-ada/presence")).devices.every(({ connectedAt }) => !connectedAt));
});
