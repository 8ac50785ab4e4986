// The people list, blocks and friends of the official SDK, unmodified, in a real browser.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { App } from "./app.js";
import { setStage } from "./stage.js";

let rollcall, site, browser, app;

const people = 250;
const uidOf = (n) => `user-${String(n).padStart(3, "0")}`;

after(async () => {
  app?.tab.expectNoProblems();
  await app?.close();
});

setStage(async (stage) => {
  ({ rollcall, site, browser } = stage);
  await rollcall.rest("POST", "/roles", { role: "vip", name: "VIP" });
  const users = [{ uid: "me", name: "Me Myself" }];
  for (let n = 0; n < people; n++) {
    users.push({ uid: uidOf(n), name: `Person ${String(n).padStart(3, "0")}${n % 10 ? "" : " Van Dyke"}`, role: n % 5 ? "default" : "vip", tags: n % 7 ? [] : ["week", "a,b"] });
  }
  await rollcall.rest("POST", "/users/batch", { users });
  await rollcall.rest("POST", "/users/me/friends", { accepted: [uidOf(1), uidOf(2), uidOf(3)] });
  app = await App.open(browser, site, rollcall);
  await app.init();
  await app.loginAs("me");
});

// pages fetches with a request until it has two empty pages behind the last one, and returns the uids of each page.
// The setters are called on a UsersRequestBuilder, or another one.
function pages(setters, builder = "UsersRequestBuilder") {
  return app.sdk(
    async ({ setters, builder }) => {
      let building = new CometChat[builder]();
      for (const [name, ...args] of setters) building = building[name](...args);
      const request = building.build();
      const pages = [];
      for (let empty = 0; empty < 2; ) {
        const users = await request.fetchNext();
        if (users.length === 0) empty++;
        pages.push(users.map((user) => user.getUid()));
        if (pages.length > 100) throw new Error("the list does not end");
      }
      return pages;
    },
    { setters, builder },
  );
}

const all = async (...setters) => (await pages([["setLimit", 100], ...setters])).flat();
const numbered = (is) => Array.from({ length: people }, (_, n) => n).filter(is).map(uidOf);

test("250 users paged to the end", async () => {
  const fetched = await pages([["setLimit", 30]]);
  assert.deepEqual(fetched.map((page) => page.length), [30, 30, 30, 30, 30, 30, 30, 30, 10, 0, 0]);
  assert.deepEqual(fetched.flat(), numbered(() => true), "everybody but the caller, by name");
});

test("setPage begins with a later page", async () => {
  const fetched = await pages([["setLimit", 100], ["setPage", 1]]);
  assert.deepEqual(fetched.flat(), numbered((n) => n >= 100));
});

test("setSearchKeyword finds the beginning of the uid and of any word of the name", async () => {
  assert.deepEqual(await all(["setSearchKeyword", "van"]), numbered((n) => n % 10 === 0));
  assert.deepEqual(await all(["setSearchKeyword", " Person 01"]), numbered((n) => n >= 10 && n < 20));
  assert.deepEqual(await all(["setSearchKeyword", "user-00"]), numbered((n) => n < 10));
  assert.deepEqual(await all(["setSearchKeyword", "user-00"], ["searchIn", ["name"]]), []);
  assert.deepEqual(await all(["setSearchKeyword", "person 000"], ["searchIn", ["uid", "name"]]), [uidOf(0)]);
});

test("setStatus asks live presence", async () => {
  assert.deepEqual(await all(["setStatus", "online"]), []);
  assert.equal((await all(["setStatus", "offline"])).length, people);
});

test("setRole, setRoles, setTags and setUIDs select", async () => {
  assert.deepEqual(await all(["setRole", "vip"]), numbered((n) => n % 5 === 0));
  assert.deepEqual(await all(["setRoles", ["vip", "default"]]), numbered(() => true));
  assert.deepEqual(await all(["setTags", ["a,b", "other"]]), numbered((n) => n % 7 === 0));
  assert.deepEqual(await all(["setUIDs", [uidOf(9), uidOf(4), "nobody"]]), [uidOf(4), uidOf(9)]);
  assert.deepEqual(await all(["setTags", ["week"]], ["setRole", "vip"]), numbered((n) => n % 35 === 0));
});

test("withTags puts tags into the answer", async () => {
  const tags = (withTags) =>
    app.sdk(
      async ({ uid, withTags }) => {
        const [user] = await new CometChat.UsersRequestBuilder().setLimit(1).setUIDs([uid]).withTags(withTags).build().fetchNext();
        return user.getTags();
      },
      { uid: uidOf(7), withTags },
    );
  assert.deepEqual(await tags(true), ["week", "a,b"]);
  assert.equal(await tags(false), null);
});

test("friendsOnly lists friends", async () => {
  assert.deepEqual(await all(["friendsOnly", true]), [uidOf(1), uidOf(2), uidOf(3)]);
});

test("sortBy and sortByOrder turn the list around", async () => {
  assert.deepEqual(await all(["sortBy", "name"], ["sortByOrder", "desc"]), numbered(() => true).reverse());
  assert.deepEqual(await all(["sortBy", "status"], ["sortByOrder", "asc"]), numbered(() => true));
});

test("blocking is seen on both sides, and taken back", async () => {
  const other = await App.open(browser, site, rollcall);
  await other.init();
  await other.loginAs(uidOf(20));
  const flags = (app, uid) =>
    app.sdk(async (uid) => {
      const user = await CometChat.getUser(uid);
      return { byMe: user.getBlockedByMe(), me: user.getHasBlockedMe(), status: user.getStatus() };
    }, uid);

  const done = await app.sdk((uids) => CometChat.blockUsers(uids), [uidOf(20), uidOf(21), "nobody"]);
  assert.equal(done[uidOf(20)].success, true);
  assert.equal(done.nobody.success, false);
  await rollcall.rest("POST", `/users/${uidOf(22)}/blockedusers`, { blockedUids: ["me"] });
  assert.deepEqual(await flags(app, uidOf(20)), { byMe: true, me: false, status: "offline" });
  assert.deepEqual(await flags(other, "me"), { byMe: false, me: true, status: "offline" });

  const blocked = async (...setters) => (await pages([["setLimit", 30], ...setters], "BlockedUsersRequestBuilder")).flat();
  assert.deepEqual(await blocked(), [uidOf(20), uidOf(21), uidOf(22)]);
  assert.deepEqual(await blocked(["blockedByMe"]), [uidOf(20), uidOf(21)]);
  assert.deepEqual(await blocked(["hasBlockedMe"]), [uidOf(22)]);
  assert.deepEqual(await blocked(["setDirection", "both"], ["setSearchKeyword", "van"]), [uidOf(20)]);
  assert.equal((await all(["hideBlockedUsers", true])).length, people - 3);
  assert.equal((await all()).length, people);

  await app.sdk((uids) => CometChat.unblockUsers(uids), [uidOf(20), uidOf(21)]);
  assert.deepEqual(await blocked(), [uidOf(22)]);
  assert.deepEqual(await flags(other, "me"), { byMe: false, me: false, status: "online" });
  other.tab.expectNoProblems();
  await other.close();
});
