// The list of useUsers, with a real client on a real server, while people come, go and change.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { RollcallClient } from "@rollcall/sdk";

import { Rollcall } from "../../e2e/server.js";
import { until } from "../../e2e/wait.js";
import { LiveList } from "../dist/esm/list.js";

let rollcall;

before(async () => {
  rollcall = await Rollcall.start();
});

after(async () => {
  await rollcall?.stop();
});

const bound = { timeout: 60_000 };

// enter returns a client that is logged in, which is closed when the test ends. calls are the lists that it asked
// for; failing makes them fail.
async function enter(context, uid, options = {}) {
  await rollcall.createUser(uid).catch(() => {}); // it may be there already
  const calls = [];
  const counting = (url, request) => {
    if (request.method === "GET" && /\/users\?/.test(url)) {
      if (client.failing)
        return Promise.resolve(new Response(`{"error":{"code":"ERR_TEST","message":"no"}}`, { status: 400 }));
      calls.push(url);
    }
    return fetch(url, request);
  };
  const client = new RollcallClient({
    appId: rollcall.appId,
    host: `http://${rollcall.http}`,
    storage: "memory",
    fetch: counting,
    ...options,
  });
  client.calls = calls;
  context.after(() => client.close());
  await client.login({ token: await rollcall.mint(uid) });
  if (options.autoConnect !== false) await until("there is a connection", () => client.connectionState === "connected");
  return client;
}

// follow shows a list and waits for its first page.
async function follow(context, client, filter) {
  const list = new LiveList(client);
  list.show(filter);
  context.after(list.start());
  await loaded(list);
  return list;
}

const loaded = (list) => until("the page has come", () => !list.state().loading);

async function more(list) {
  list.state().loadMore();
  await loaded(list);
  assert.equal(list.state().error, undefined);
}

const names = (list) =>
  list
    .state()
    .users.map(({ name, status }) => (status === "online" ? `${name}*` : name))
    .join(" ");

const shows = (list, expected) =>
  until(`the list shows ${expected}`, () => names(list) === expected).catch((error) => {
    throw new Error(`${error.message}: it shows ${names(list)}`);
  });

// people makes users whose names are their uids behind a prefix, and with a role of the test.
async function people(role, ...uids) {
  await rollcall.rest("POST", "/roles", { role, name: role });
  await rollcall.rest("POST", "/users/batch", {
    users: uids.map((uid) => ({ uid: `${role}-${uid}`, name: uid, role })),
  });
}

const rename = (uid, name) => rollcall.rest("PUT", `/users/${uid}`, { name });

for (const sortBy of ["status", "name", "createdAt", "updatedAt", "lastActiveAt"]) {
  for (const sortOrder of [undefined, "asc", "desc"]) {
    test(
      `everybody comes while others leave and change their names: by ${sortBy}, ${sortOrder ?? "as it is"}`,
      bound,
      async (context) => {
        const role = `all-${sortBy}-${sortOrder}`.toLowerCase();
        await people(role, "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m");
        await enter(context, `${role}-k`);
        await enter(context, `${role}-h`);
        const me = await enter(context, "all-me", { subscribe: "all" });
        const filter = { roles: [role], sortBy, ...(sortOrder && { sortOrder }), limit: 3 };
        const list = await follow(context, me, filter);
        const first = list.state().users.map(({ uid }) => uid);
        assert.equal(first.length, 3);
        assert.deepEqual(
          first,
          (await me.users.list(filter)).users.map(({ uid }) => uid),
          "the first page is the server's",
        );
        const [front, ...rest] = await me.users
          .list({ ...filter, limit: 100 })
          .then(({ users }) => users.slice(3).map(({ uid }) => uid));
        await rollcall.rest("DELETE", `/users/${first[0]}`); // deactivated: those behind move up
        await more(list);
        await rename(first[1], "zz");
        for (const [n, uid] of rest.entries()) if (n % 3 === 0) await rename(uid, `${n % 2 ? "Äa" : "zy"} ${n}`);
        await rename(front, "aa");
        await rollcall.rest("POST", "/users", { uid: `${role}-new`, name: "a new one", role });
        for (let n = 0; list.state().hasMore && n < 20; n++) await more(list);
        const found = list
          .state()
          .users.map(({ uid }) => uid)
          .filter((uid) => uid !== first[0]);
        const there = (await me.users.list({ ...filter, limit: 100 })).users.map(({ uid }) => uid);
        assert.deepEqual(found.toSorted(), there.toSorted(), "everybody is there once");
        if (sortBy !== "lastActiveAt") assert.deepEqual(found, there, "the order is the server's");
        assert.equal(list.state().total, there.length);
      },
    );
  }
}

test("rows move as people come, go and change their names", bound, async (context) => {
  await people("move", "anna", "bea", "cleo", "dora");
  const me = await enter(context, "move-me", { subscribe: "all" });
  const list = await follow(context, me, { roles: ["move"], limit: 3 });
  await shows(list, "anna bea cleo");
  const cleo = await enter(context, "move-cleo");
  await shows(list, "cleo* anna bea");
  await enter(context, "move-dora"); // who was not loaded yet
  await shows(list, "cleo* dora* anna bea");
  await rename("move-cleo", "Éva");
  await shows(list, "dora* Éva* anna bea");
  cleo.disconnect();
  await shows(list, "dora* anna bea Éva");
  await more(list);
  assert.deepEqual([names(list), list.state().hasMore, list.state().total], ["dora* anna bea Éva", false, 4]);
});

test("a list of those online holds them and nobody else", bound, async (context) => {
  await people("on", "anna", "bea", "cleo", "dora");
  const anna = await enter(context, "on-anna");
  const cleo = await enter(context, "on-cleo");
  await enter(context, "on-dora");
  const unheard = await enter(context, "on-me");
  const still = await follow(context, unheard, { roles: ["on"], status: "online", limit: 2 });
  const me = await enter(context, "on-me", { subscribe: "all" });
  const list = await follow(context, me, { roles: ["on"], status: "online", limit: 2 });
  for (const either of [still, list]) await shows(either, "anna* cleo*");
  anna.disconnect();
  await shows(list, "cleo*");
  assert.equal(list.state().total, 2);
  for (const either of [still, list]) {
    await more(either);
    await shows(either, "cleo* dora*");
    assert.equal(either.state().hasMore, false);
  }
  cleo.disconnect();
  await enter(context, "on-bea");
  await shows(list, "bea* dora*");
  assert.equal(list.state().total, 2);
});

test("rows do not stay online of whom nothing is heard any more", bound, async (context) => {
  await people("sub", "anna", "bea", "cleo");
  await enter(context, "sub-anna");
  await enter(context, "sub-bea");
  const me = await enter(context, "sub-me", { subscribe: { uids: ["sub-anna", "sub-bea"] } });
  const list = await follow(context, me, { roles: ["sub"] });
  await shows(list, "anna* bea* cleo");
  me.presence.subscribe({ uids: ["sub-bea"] });
  await shows(list, "bea* anna cleo");
});

test("who left before there was a connection is offline when there is one", bound, async (context) => {
  await people("late", "anna", "bea");
  const anna = await enter(context, "late-anna");
  const bea = await enter(context, "late-bea");
  const me = await enter(context, "late-me", { subscribe: "all", autoConnect: false });
  const list = await follow(context, me, { roles: ["late"] });
  await shows(list, "anna* bea*");
  anna.disconnect();
  await until("anna is offline", async () => (await rollcall.user("late-anna")).status === "offline");
  me.connect();
  await shows(list, "bea* anna");
  me.disconnect();
  bea.disconnect();
  me.connect();
  await shows(list, "anna bea");
});

test("while somebody types, nothing is asked", bound, async (context) => {
  await people("type", "anna", "anton", "bea");
  const me = await enter(context, "type-me");
  const list = await follow(context, me, { roles: ["type"] });
  me.calls.length = 0;
  for (const search of ["a", "an", "ant"]) list.show({ roles: ["type"], search });
  assert.deepEqual([names(list), list.state().loading], ["anna anton bea", true], "what is shown stays");
  await loaded(list);
  assert.deepEqual([names(list), me.calls.length], ["anton", 1]);
  list.show({ roles: ["type"], search: "ant", limit: 5 });
  assert.equal(me.calls.length, 2, "another filter is at once");
});

test("what has failed goes on where it was", bound, async (context) => {
  await people("fail", "anna", "bea", "cleo");
  const me = await enter(context, "fail-me");
  const list = await follow(context, me, { roles: ["fail"], limit: 2 });
  me.failing = true;
  list.state().loadMore();
  await loaded(list);
  assert.deepEqual([names(list), list.state().error.code, list.state().hasMore], ["anna bea", "ERR_TEST", true]);
  me.failing = false;
  await more(list);
  assert.deepEqual([names(list), list.state().hasMore], ["anna bea cleo", false]);
  me.failing = true;
  list.show({ roles: ["fail"], sortBy: "name" });
  await loaded(list);
  assert.deepEqual(
    [names(list), list.state().hasMore],
    ["anna bea cleo", false],
    "nothing can be put behind another filter's list",
  );
});

test("nobody sees the list of another", bound, async (context) => {
  await people("other", "anna", "bea");
  const me = await enter(context, "other-me");
  const list = await follow(context, me, { roles: ["other"] });
  await shows(list, "anna bea");
  const seen = [];
  list.subscribe(() => seen.push(names(list)));
  await me.login({ token: await rollcall.mint("other-anna") });
  await shows(list, "bea");
  assert.deepEqual([...new Set(seen)], ["", "bea"]);
  await me.logout();
  assert.deepEqual([names(list), list.state().total], ["", undefined]);
});

test("a list of friends follows who becomes one", bound, async (context) => {
  await people("pals", "ann", "ben");
  const me = await enter(context, "pals-me");
  const list = await follow(context, me, { friendsOnly: true });
  await shows(list, "");
  await rollcall.rest("POST", "/users/pals-ann/friends", { accepted: ["pals-me"] });
  await shows(list, "ann");
  const ben = await enter(context, "pals-ben");
  await me.friends.ask(["pals-ben"]);
  await ben.friends.accept(["pals-me"]);
  await until("ben is in the list", () => list.state().users.some(({ uid }) => uid === "pals-ben"));
  await rollcall.rest("DELETE", "/users/pals-ann/friends", { friends: ["pals-me"] });
  await until("ann is not", () => list.state().users.every(({ uid }) => uid !== "pals-ann"));
  assert.equal(list.state().total, 1);
});
