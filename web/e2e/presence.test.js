// Presence as an app on the official SDK lives it: several people in tabs of their own, each with the SDK's own socket.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { App } from "./app.js";
import { launch } from "./browser.js";
import { Proxy } from "./proxy.js";
import { setStage } from "./stage.js";
import { until } from "./wait.js";

let rollcall, site, browser;
setStage((stage) => ({ rollcall, site, browser } = stage));

const toAll = ["subscribePresenceForAllUsers"];
const toRoles = (...roles) => ["subscribePresenceForRoles", roles];
const toFriends = ["subscribePresenceForFriends"];

// withPeople runs a test with people who are made for it. enter logs one of them in, in a tab of its own.
function withPeople(name, work) {
  test(name, { timeout: 120_000 }, async () => {
    const apps = [];
    const enter = async (uid, subscribe, options = {}) => {
      const app = await App.open(options.browser ?? browser, site, rollcall, options.hosts);
    app.uid = uid;
      apps.push(app);
      await app.init({ subscribe, host: options.host });
      await app.loginAs(uid);
      return app;
    };
    await work(enter);
    for (const app of apps) if (!app.closed) app.tab.expectNoProblems();
    for (const app of apps) if (!app.closed) await app.close();
  });
}

// hears waits until an app has been told as many things as expected about the people of its own test, whose uids begin
// alike, and compares them: those of other tests may still be on their way out.
async function hears(app, ...expected) {
  const told = [];
  await until(`${expected.join(", ")} is told`, async () => {
    const own = app.uid.split("-")[0] + "-";
    told.push(...(await app.sdk(() => presence.splice(0))).filter(({ uid }) => uid.startsWith(own)));
    return told.length >= expected.length;
  }, 40_000);
  assert.deepEqual(told.map(({ uid, status }) => `${uid} ${status}`), expected);
  return told;
}

const people = (...uids) => Promise.all(uids.map((uid) => rollcall.createUser(uid)));

withPeople("all, roles, friends and none hear what they have asked for", async (enter) => {
  await people("s-all", "s-friend", "s-none", "s-roles", "s-star");
  await rollcall.rest("POST", "/roles", { role: "star", name: "Star" });
  await rollcall.rest("PUT", "/users/s-star", { role: "star" });
  await rollcall.rest("POST", "/users/s-friend/friends", { accepted: ["s-star"] });
  const all = await enter("s-all", toAll);
  const friend = await enter("s-friend", toFriends);
  const none = await enter("s-none");
  const roles = await enter("s-roles", toRoles("star"));
  await hears(all, "s-friend online", "s-none online", "s-roles online");
  const star = await enter("s-star");
  for (const app of [all, friend, roles]) await hears(app, "s-star online");
  assert.equal(await star.sdk(() => CometChat.getOnlineUserCount()), 5, "it is the first test");
  await star.sdk(() => CometChat.logout());
  for (const app of [all, friend, roles]) {
    const [told] = await hears(app, "s-star offline");
    assert.equal(told.name, "s-star");
    assert.ok(Math.abs(told.lastActiveAt - Date.now() / 1000) < 60);
  }
  assert.deepEqual(await none.sdk(() => presence), []);
  const seen = await all.sdk(() => CometChat.getUser("s-friend"));
  assert.equal(seen.status, "online");
});

withPeople("those online come first, and the status filter knows them", async (enter) => {
  await people("o-a", "o-b", "o-c", "o-me");
  await enter("o-c");
  const app = await enter("o-me");
  const list = (...setters) =>
    app.sdk(async (setters) => {
      const builder = new CometChat.UsersRequestBuilder().setLimit(30).setSearchKeyword("o-");
      for (const [setter, value] of setters) builder[setter](value);
      return (await builder.build().fetchNext()).map((user) => `${user.getUid()} ${user.getStatus()}`);
    }, setters);
  assert.deepEqual(await list(), ["o-c online", "o-a offline", "o-b offline"]);
  assert.deepEqual(await list(["setStatus", "online"]), ["o-c online"]);
  assert.deepEqual(await list(["setStatus", "offline"]), ["o-a offline", "o-b offline"]);
  assert.deepEqual(await list(["sortBy", "name"]), ["o-a offline", "o-b offline", "o-c online"]);
});

withPeople("two devices of one person are one person", async (enter) => {
  await people("d-watch", "d-two", "d-mark");
  const watcher = await enter("d-watch", toAll);
  const first = await enter("d-two");
  const second = await enter("d-two");
  await first.sdk(() => CometChat.logout());
  await enter("d-mark");
  await second.sdk(() => CometChat.logout());
  await hears(watcher, "d-two online", "d-mark online", "d-two offline");
});

describe("what takes its time", { concurrency: 5 }, () => {
  withPeople("a page that is loaded again is not missed, and one that is closed is", async (enter) => {
    await people("r-watch", "r-page", "r-mark");
    const watcher = await enter("r-watch", toAll);
    const page = await enter("r-page");
    await page.reload();
    await enter("r-mark");
    await hears(watcher, "r-page online", "r-mark online");
    await page.close();
    page.closed = true;
    await hears(watcher, "r-page offline");
  });

  withPeople("a revoked token ends the socket, and the SDK logs out with its next ping", async (enter) => {
    await people("t-watch", "t-gone");
    const watcher = await enter("t-watch", toAll);
    const gone = await enter("t-gone");
    await gone.passReport(); // it would be refused, which the SDK does not catch
    await hears(watcher, "t-gone online");
    const revoked = await rollcall.call("DELETE", "/users/t-gone/auth_tokens");
    assert.equal(revoked.meta.closedSockets, 1);
    await hears(watcher, "t-gone offline");
    await until("the SDK sees its socket closed", async () => (await gone.sdk(() => CometChat.getConnectionStatus())) !== "connected");
    await gone.sdk(() => connections.splice(0));
    await until("the SDK has logged out", async () => {
      await gone.pass(10);
      return (await gone.takeEvents()).includes("logoutSuccess");
    });
    assert.ok(gone.tab.refusals.splice(0).every((refusal) => refusal.startsWith("401 ")), "refused because of the token alone");
  });

  withPeople("blocking silences both at once", async (enter) => {
    await people("b-one", "b-two");
    const one = await enter("b-one", toAll);
    const two = await enter("b-two", toAll);
    await hears(one, "b-two online");
    await one.sdk(() => CometChat.blockUsers(["b-two"]));
    await hears(one, "b-two offline");
    await hears(two, "b-one offline");
    await one.sdk(() => CometChat.unblockUsers(["b-two"]));
    await hears(one, "b-two online");
    await hears(two, "b-one online");
  });

  withPeople("a browser that is killed is offline after the grace", async (enter) => {
    await people("k-watch", "k-dead");
    const watcher = await enter("k-watch", toAll);
    const doomed = await launch();
    const dead = await enter("k-dead", undefined, { browser: doomed });
    dead.closed = true; // with its browser
    await hears(watcher, "k-dead online");
    await doomed.close();
    await hears(watcher, "k-dead offline");
  });

  withPeople("a network that goes silent takes its user offline within 25 seconds", async (enter) => {
    await people("n-watch", "n-cut");
    const watcher = await enter("n-watch", toAll);
    const proxy = await Proxy.start(rollcall.https);
    const cut = await enter("n-cut", undefined, { host: proxy.host, hosts: [proxy.host] });
    await hears(watcher, "n-cut online");
    proxy.silence();
    await hears(watcher, "n-cut offline");
    cut.closed = true;
    await cut.close();
    await proxy.stop();
  });
});

withPeople("a restart of the server is not told, and who does not come back is", async (enter) => {
  await people("x-watch", "x-back", "x-lost");
  const watcher = await enter("x-watch", toAll);
  const back = await enter("x-back");
  const lost = await enter("x-lost");
  await hears(watcher, "x-back online", "x-lost online");
  lost.closed = true;
  await until("it is stored who is online", async () => (await rollcall.rest("GET", "/users/x-lost/presence/timeline")).length > 0);
  await rollcall.pause();
  await lost.close();
  await rollcall.resume();
  assert.equal((await rollcall.user("x-back")).status, "offline");
  for (const app of [watcher, back]) {
    await app.pass(6); // the SDK's own reconnect
    await until("the SDK has connected again", async () => {
      await app.pass(5);
      return (await app.sdk(() => CometChat.getConnectionStatus())) === "connected";
    });
    await app.tab.socketsReady();
  }
  await hears(watcher, "x-lost offline");
  assert.equal((await rollcall.user("x-back")).status, "available");
});
