// The official clients, unmodified, as people use them for longer than a test lasts: the same tests for every build.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { App } from "./app.js";
import { OneWindow, launch } from "./browser.js";
import { builds } from "./builds.js";
import { Proxy } from "./proxy.js";
import { Rollcall } from "./server.js";
import { Site } from "./site.js";
import { until } from "./wait.js";
import { Watcher } from "./watcher.js";

// For how long tabs are hidden. A timer that repeats is held back from its sixth time on, which for the SDK's ping
// comes after two minutes. HIDDEN_SECONDS=300 is as long as a meeting.
const hiddenFor = Number(process.env.HIDDEN_SECONDS ?? 160);

let rollcall, later, site, browser, window, watcher, laterWatcher;

before(async () => {
  [rollcall, later, site, browser, window] = await Promise.all([
    Rollcall.start(),
    Rollcall.start({ clock: true }),
    Site.start(),
    launch(),
    OneWindow.launch(),
  ]);
  await Promise.all(builds.map((build) => site.add(build)));
  [watcher, laterWatcher] = await Promise.all([rollcall, later].map((server) => Watcher.enter(server, "watcher")));
});

after(async () => {
  watcher?.close();
  laterWatcher?.close();
  await Promise.all([browser?.close(), window?.close()]);
  await Promise.all([site, rollcall, later].map((started) => started?.stop()));
});

const bound = { timeout: 60_000 + (hiddenFor + 120) * 1000 };
const toAll = ["subscribePresenceForAllUsers"];

// enter opens a build's page and logs somebody in.
async function enter(context, build, uid, { server = rollcall, host = server.https, ...options } = {}) {
  await server.createUser(uid);
  const app = await App.open(browser, options.site ?? site, server, [host], `/${build.key}`, options);
  context.after(() => app.close());
  await app.init({ subscribe: toAll, host });
  await app.loginAs(uid);
  return app;
}

const uidOf = (build, what) => `${what}-${build.key.replace(".", "-")}`;

describe("every build", { concurrency: 4 }, () => {
  // The tabs are those of one person: whichever was opened last is in front, until another one is.
  test("tabs that are hidden stay online, whatever build is in them", bound, async (context) => {
    const tabs = [];
    for (const build of builds) {
      const own = await Site.start(); // an origin of its own, so that each has its own storage
      context.after(() => own.stop());
      await own.add(build);
      const uid = uidOf(build, "hidden");
      const app = await enter(context, build, uid, { site: own, clockRuns: true, beside: { context: window.context } });
      await watcher.hears(uid, `${uid} online`);
      tabs.push({ build, uid, app });
    }
    await window.hideAll();
    for (const { app } of tabs) await until("the tab is hidden", () => app.page.evaluate(() => document.hidden));
    await new Promise((resolve) => setTimeout(resolve, hiddenFor * 1000));
    for (const { build, uid, app } of tabs) {
      await context.test(build.key, async () => {
        assert.ok(
          app.tab.pings < hiddenFor / 15 - 1,
          `the browser has not held back the pings: there were ${app.tab.pings} in ${hiddenFor} s`,
        );
        const timeline = await rollcall.rest("GET", `/users/${uid}/presence/timeline`);
        assert.deepEqual(
          timeline.filter(({ cause }) => cause === "silent"),
          [],
          "whoever answers is not silent",
        );
        await watcher.hearsNothing(uid);
        await until("the page has heard of who came", () =>
          app.sdk((uid) => presence.some((user) => user.uid.startsWith(`${uid}-mark`)), uid),
        );
      });
    }
  });

  for (const build of builds) {
    test(`${build.key}: presence goes both ways`, bound, async (context) => {
      const uid = uidOf(build, "both");
      const app = await enter(context, build, uid);
      await watcher.hears(uid, `${uid} online`);
      const other = await enter(context, builds[0], `${uid}-other`);
      const hears = async (...expected) => {
        const own = () =>
          app.sdk(
            (prefix) =>
              presence.filter(({ uid }) => uid.startsWith(prefix)).map(({ uid, status }) => `${uid} ${status}`),
            uid,
          );
        await until(`${expected} is told`, async () => (await own()).length >= expected.length);
        assert.deepEqual(await own(), expected);
      };
      await hears(`${uid}-other online`);
      await other.sdk(() => CometChat.logout());
      await hears(`${uid}-other online`, `${uid}-other offline`);
      await watcher.hears(uid, `${uid}-other online`, `${uid}-other offline`);
      await app.sdk(() => CometChat.disconnect());
      await watcher.hears(uid, `${uid} offline`);
      await until("the socket is closed", () => app.tab.sockets.size === 0);
      await app.sdk(() => CometChat.connect());
      await watcher.hears(uid, `${uid} online`);
      await app.sdk(() => CometChat.logout());
      await watcher.hears(uid, `${uid} offline`);
      app.tab.expectNoProblems();
    });

    test(`${build.key}: a network that stalls while a pong is due is not told to others`, bound, async (context) => {
      const uid = uidOf(build, "stall");
      const line = await Proxy.start(rollcall.https);
      context.after(() => line.stop());
      const app = await enter(context, build, uid, { host: line.host });
      await watcher.hears(uid, `${uid} online`);
      line.hold();
      await app.passUntil("the SDK has pinged", () => app.tab.unanswered.size === 1, 20);
      await app.passUntil(
        "the SDK has given up",
        async () => (await app.sdk(() => CometChat.getConnectionStatus())) !== "connected",
        5,
      );
      line.release();
      await until("the socket is closed", () => app.tab.sockets.size === 0);
      await app.passUntil("the SDK has come back", () => app.tab.sockets.size > 0, 10);
      await app.tab.socketsReady();
      await watcher.hearsNothing(uid);
      await app.sdk(() => CometChat.logout());
      await watcher.hears(uid, `${uid} offline`);
    });

    test(`${build.key}: a connection that breaks when the first JWT has run out comes back`, bound, async (context) => {
      const uid = uidOf(build, "later");
      const line = await Proxy.start(later.https);
      context.after(() => line.stop());
      const app = await enter(context, build, uid, { server: later, host: line.host });
      const quiet = await App.open(browser, site, later, [], `/${build.key}`);
      context.after(() => quiet.close());
      await later.createUser(`quiet-${uid}`);
      await quiet.init({ autoConnect: false });
      await quiet.sdk((credentials) => CometChat.login(...credentials), [`quiet-${uid}`, later.authKey]);
      await laterWatcher.hears(uid, `${uid} online`);
      for (let minute = 0; minute < 17; minute++) {
        await later.advance(60);
        await app.leap(60);
      }
      line.cut();
      await until("the connection has broken", () => app.tab.sockets.size === 0);
      line.mend();
      await app.passUntil("the SDK has come back", () => app.tab.sockets.size > 0, 10);
      await app.tab.socketsReady();
      await laterWatcher.hearsNothing(uid);
      assert.equal(
        typeof (await quiet.sdk(() => CometChat.getOnlineUserCount())),
        "number",
        "without a socket nobody has refreshed the JWT",
      );
    });
  }

  test("react-native-4: an app in the background is offline, and online when it comes back", bound, async (context) => {
    const build = builds.find(({ key }) => key === "react-native-4");
    const app = await enter(context, build, "background");
    await watcher.hears("background", "background online");
    await app.page.evaluate(() => moveApp("background"));
    await watcher.hears("background", "background offline");
    await until("the socket is closed", () => app.tab.sockets.size === 0);
    await app.page.evaluate(() => moveApp("active"));
    await app.passUntil("the SDK has come back", () => app.tab.sockets.size > 0, 10);
    await app.tab.socketsReady();
    await watcher.hears("background", "background online");
  });

  test("uikit-react-6: the list of people grows, is searched, and shows who is online", bound, async (context) => {
    await rollcall.rest("POST", "/users/batch", {
      users: Array.from({ length: 45 }, (_, i) => ({ uid: `kit-${i}`, name: `!Kit ${String(i).padStart(2, "0")}` })),
    });
    await rollcall.createUser("kit-me");
    const app = await App.open(browser, site, rollcall, [], "/uikit-react-6", { clockRuns: true });
    context.after(() => app.close());
    await app.page.evaluate((settings) => startKit(settings), {
      appId: rollcall.appId,
      host: rollcall.https,
      uid: "kit-me",
      authKey: rollcall.authKey,
    });
    const items = app.page.locator(".cometchat-list-item");
    await until("the first page is there", async () => (await items.count()) === 30);
    await until("the second page is there", async () => {
      await items.first().scrollIntoViewIfNeeded(); // the kit looks only when the end comes into sight
      await items.last().scrollIntoViewIfNeeded();
      return (await items.count()) > 30;
    });
    await app.page.getByPlaceholder("Search").fill("kit-44");
    await until("the one who is searched for is there", async () => (await items.count()) === 1);
    const kit = await Watcher.enter(rollcall, "kit-44");
    const state = (state) =>
      app.page.locator(`.cometchat-users__list-item-${state} #kit-44`).waitFor({ state: "attached" });
    await state("online");
    kit.close();
    await state("offline");
    app.tab.expectNoProblems();
  });
});
