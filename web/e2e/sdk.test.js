// The official JavaScript SDK, unmodified, in a real browser, against the real server over TLS. What the SDK returns
// and what the server holds afterwards are both looked at.
import assert from "node:assert/strict";
import { test } from "node:test";

import { App } from "./app.js";
import { setStage } from "./stage.js";

let rollcall, site, browser;
setStage((stage) => ({ rollcall, site, browser } = stage));

// inApp runs a test in an app of its own with the SDK initialized, and fails when something went wrong there that the
// test has not asked for.
function inApp(name, work, options = {}) {
  test(name, { timeout: 60_000 }, async () => {
    const app = await App.open(browser, site, rollcall);
    try {
      await app.init(options.init?.());
      await work(app);
      app.tab.expectNoProblems();
    } finally {
      await app.close();
    }
  });
}

const pick = (object, ...keys) => Object.fromEntries(keys.map((key) => [key, object[key]]));

const tokenUnknown = { code: "AUTH_ERR_AUTH_TOKEN_NOT_FOUND" };

inApp("init talks to nobody and finds nobody logged in", async (app) => {
  assert.equal(await app.loggedInUser(), null);
  assert.deepEqual(app.tab.takeCalls(), []);
  await assert.rejects(app.sdk(() => CometChat.init("")), { code: "MISSING_PARAMETERS" });
});

inApp("createUser stores every field", async (app) => {
  const fields = {
    name: "Åsa 🦊 <b>Öberg</b>", avatar: "https://example.com/a.png?x=1&y=2", link: "https://example.com/asa", role: "default",
    metadata: { team: { name: "blue" }, list: [1, null, "x"] }, statusMessage: "line one\nline two", tags: ["first", "with, comma", "ü"],
  };
  const made = await app.sdk(
    ({ fields, key }) => {
      const user = new CometChat.User("create-all");
      user.setName(fields.name);
      user.setAvatar(fields.avatar);
      user.setLink(fields.link);
      user.setRole(fields.role);
      user.setMetadata(fields.metadata);
      user.setStatusMessage(fields.statusMessage);
      user.setTags(fields.tags);
      return CometChat.createUser(user, key);
    },
    { fields, key: rollcall.authKey },
  );
  assert.deepEqual(pick(made, "uid", ...Object.keys(fields)), { uid: "create-all", ...fields });
  assert.deepEqual(pick(made, "status", "hasBlockedMe", "blockedByMe", "deactivatedAt"), {
    status: "offline", hasBlockedMe: false, blockedByMe: false, deactivatedAt: 0,
  });
  const stored = await rollcall.user("create-all");
  assert.deepEqual(pick(stored, "uid", ...Object.keys(fields)), { uid: "create-all", ...fields });
  assert.deepEqual(await rollcall.tokens("create-all"), [], "creating a user through the SDK mints no token");
});

inApp("createUser with what the one-object constructor adds, in upper case", async (app) => {
  const made = await app.sdk(
    (key) => CometChat.createUser(new CometChat.User({ uid: "Create-Plain", name: "Plain", status: "online" }), key),
    rollcall.authKey,
  );
  assert.deepEqual(pick(made, "uid", "name", "role", "status"), { uid: "create-plain", name: "Plain", role: "default", status: "offline" });
  assert.equal((await rollcall.user("create-plain")).status, "offline");
});

inApp("createUser of a uid that exists fails and changes nothing", async (app) => {
  await rollcall.createUser("duplicate", { name: "First" });
  const create = (key) => CometChat.createUser(new CometChat.User({ uid: "DUPLICATE", name: "Second" }), key);
  await assert.rejects(app.sdk(create, rollcall.authKey), { code: "ERR_UID_ALREADY_EXISTS", details: { uid: ["The uid has already been taken."] } });
  assert.equal((await rollcall.user("duplicate")).name, "First");
  await app.tab.expectRefusals("400 POST /users");
});

inApp("createUser refuses bad fields by name, and creates nothing", async (app) => {
  const create = (key) => CometChat.createUser(new CometChat.User({ uid: "bad uid/é", name: "Bad", avatar: "javascript:alert(1)" }), key);
  await assert.rejects(app.sdk(create, rollcall.authKey), (error) => {
    assert.equal(error.code, "ERR_BAD_REQUEST");
    assert.deepEqual(Object.keys(error.details).sort(), ["avatar", "uid"]);
    return true;
  });
  const found = await rollcall.rest("GET", "/users?searchKey=bad");
  assert.deepEqual(found, []);
  await app.tab.expectRefusals("400 POST /users");
});

inApp("createUser and updateUser with a wrong auth key fail", async (app) => {
  await rollcall.createUser("wrong-key", { name: "Before" });
  const wrong = "0".repeat(40);
  const create = (key) => CometChat.createUser(new CometChat.User({ uid: "wrong-key-2", name: "X" }), key);
  const update = (key) => CometChat.updateUser(new CometChat.User({ uid: "wrong-key", name: "After" }), key);
  await assert.rejects(app.sdk(create, wrong), { code: "AUTH_ERR_APIKEY_NOT_FOUND" });
  await assert.rejects(app.sdk(update, wrong), { code: "AUTH_ERR_APIKEY_NOT_FOUND" });
  assert.equal((await rollcall.user("wrong-key")).name, "Before");
  assert.equal((await rollcall.call("GET", "/users/wrong-key-2")).status, 404);
  await app.tab.expectRefusals("401 POST /users", "401 PUT /users/wrong-key");
});

inApp("login with a uid and the auth key", async (app) => {
  await rollcall.createUser("login-key", { name: "Key Login", tags: ["t"], metadata: { a: 1 }, statusMessage: "here" });
  const user = await app.loginAs("login-key");
  assert.deepEqual(pick(user, "uid", "name", "role", "status", "tags", "metadata", "statusMessage"), {
    uid: "login-key", name: "Key Login", role: "default", status: "online", tags: ["t"], metadata: { a: 1 }, statusMessage: "here",
  });
  assert.deepEqual(app.tab.takeCalls(), ["POST /users/login-key/auth_tokens", "PUT /me", "POST /v3.0/ping"]);
  assert.deepEqual(await app.takeEvents(), ["loginSuccess"]);
  assert.deepEqual(pick(await app.loggedInUser(), "uid", "authToken"), { uid: "login-key", authToken: user.authToken });

  const [token, ...more] = await rollcall.tokens("login-key");
  assert.deepEqual(more, []);
  assert.equal(token.platform, "WEB");
  assert.match(token.deviceId, new RegExp(`^${rollcall.appId}_`));
  assert.equal(token.appInfo.version, "v4.2.0");
  assert.equal((await rollcall.call("GET", `/users/login-key/auth_tokens/${user.authToken}`)).meta.item.id, token.id);
});

inApp("login again as the same user costs no call", async (app) => {
  await rollcall.createUser("login-twice");
  await app.loginAs("login-twice");
  app.tab.takeCalls();
  const again = await app.sdk((key) => CometChat.login("login-twice", key), rollcall.authKey);
  assert.equal(again.uid, "login-twice");
  assert.deepEqual(app.tab.takeCalls(), []);
  assert.equal((await rollcall.tokens("login-twice")).length, 1);
});

inApp("login with a token minted over REST", async (app) => {
  await rollcall.createUser("login-token", { name: "Token Login" });
  const token = await rollcall.mint("login-token");
  const user = await app.login(token);
  assert.deepEqual(pick(user, "uid", "name", "status", "authToken"), { uid: "login-token", name: "Token Login", status: "online", authToken: token });
  assert.deepEqual(app.tab.takeCalls(), ["PUT /me", "POST /v3.0/ping"]);
  assert.deepEqual(await app.takeEvents(), ["loginSuccess"]);
  assert.equal((await app.loggedInUser()).uid, "login-token");
  const [stored, ...more] = await rollcall.tokens("login-token");
  assert.deepEqual(more, [], "logging in with a token mints no other");
  assert.equal(stored.platform, "WEB");
});

inApp("login with an override host that holds the version", async (app) => {
  await rollcall.createUser("login-versioned");
  await app.loginAs("login-versioned");
  assert.deepEqual(app.tab.takeCalls(), ["POST /v3.0/users/login-versioned/auth_tokens", "PUT /v3.0/me", "POST /v3.0/ping"]);
}, { init: () => ({ host: `${rollcall.https}/v3.0` }) });

inApp("login to an app that does not exist", async (app) => {
  await assert.rejects(app.sdk((key) => CometChat.login("anybody", key), rollcall.authKey), { code: "AUTH_ERR_INVALID_APPID" });
  await app.tab.expectRefusals("404 POST /users/anybody/auth_tokens");
}, { init: () => ({ appId: "0000000000000000" }) });

inApp("login as an unknown user", async (app) => {
  await assert.rejects(app.sdk((key) => CometChat.login("nobody", key), rollcall.authKey), { code: "ERR_UID_NOT_FOUND" });
  assert.deepEqual(await app.takeEvents(), ["loginFailure ERR_UID_NOT_FOUND"]);
  assert.equal(await app.loggedInUser(), null);
  await app.tab.expectRefusals("404 POST /users/nobody/auth_tokens");
});

inApp("login with a wrong auth key fails, and the right one works afterwards", async (app) => {
  await rollcall.createUser("login-wrong-key");
  await assert.rejects(app.sdk((key) => CometChat.login("login-wrong-key", key), "0".repeat(40)), { code: "AUTH_ERR_APIKEY_NOT_FOUND" });
  assert.equal(await app.loggedInUser(), null);
  assert.deepEqual(await rollcall.tokens("login-wrong-key"), []);
  await app.tab.expectRefusals("401 POST /users/login-wrong-key/auth_tokens");
  assert.equal((await app.loginAs("login-wrong-key")).uid, "login-wrong-key");
});

inApp("login with a wrong token rejects and leaves the SDK able to log in", async (app) => {
  await rollcall.createUser("login-wrong-token");
  const wrong = `login-wrong-token_${"0".repeat(40)}`;
  await assert.rejects(app.sdk((token) => CometChat.login(token), wrong), tokenUnknown);
  await assert.rejects(app.sdk((token) => CometChat.login(token), "no token at all"), tokenUnknown);
  assert.equal(await app.loggedInUser(), null);
  await app.tab.expectRefusals("401 PUT /me", "401 PUT /me");

  assert.equal((await app.loginAs("login-wrong-token")).uid, "login-wrong-token");
  assert.equal((await app.sdk(() => CometChat.getUser("login-wrong-token"))).uid, "login-wrong-token");
});

inApp("a second login at the same time is told so, and the first one goes on", async (app) => {
  await rollcall.createUser("login-race");
  const outcomes = await app.afterPing(() =>
    app.sdk(
      (key) => Promise.allSettled([CometChat.login("login-race", key), CometChat.login("login-race", key)]),
      rollcall.authKey,
    ),
  );
  assert.equal(outcomes[0].value.uid, "login-race");
  assert.equal(outcomes[1].reason.name, "LOGIN_IN_PROGRESS");
  assert.equal((await app.loggedInUser()).uid, "login-race");
  assert.equal((await rollcall.tokens("login-race")).length, 1);
});

inApp("a deactivated user can log in neither by key nor by token, until it is active again", async (app) => {
  await rollcall.createUser("sleeper");
  const token = await rollcall.mint("sleeper");
  await rollcall.rest("DELETE", "/users", { uidsToDeactivate: ["sleeper"] });
  await assert.rejects(app.sdk((key) => CometChat.login("sleeper", key), rollcall.authKey), { code: "ERR_UID_NOT_FOUND" });
  await assert.rejects(app.sdk((token) => CometChat.login(token), token), tokenUnknown);
  assert.equal(await app.loggedInUser(), null);
  await app.tab.expectRefusals("404 POST /users/sleeper/auth_tokens", "401 PUT /me");

  await rollcall.rest("PUT", "/users", { uidsToActivate: ["sleeper"] });
  assert.equal((await app.login(token)).authToken, token);
});

inApp("deactivating a user logs it out with its next call", async (app) => {
  await rollcall.createUser("put-to-sleep");
  await app.loginAs("put-to-sleep");
  await rollcall.rest("DELETE", "/users/put-to-sleep");
  await assert.rejects(app.sdk(() => CometChat.getUser("put-to-sleep")), tokenUnknown);
  assert.equal(await app.loggedInUser(), null);
  assert.deepEqual(await app.takeEvents(), ["loginSuccess", "logoutSuccess"]);
  await app.tab.expectRefusals("401 GET /users/put-to-sleep");
});

inApp("updateUser changes what it is given and nothing else", async (app) => {
  const before = await rollcall.createUser("update-other", { name: "Before", link: "https://example.com/l", tags: ["keep"], metadata: { old: true } });
  const updated = await app.sdk(
    (key) => {
      const user = new CometChat.User("update-other");
      user.setName("After");
      user.setAvatar("https://example.com/after.png");
      user.setMetadata({ new: true });
      user.setStatusMessage("changed");
      return CometChat.updateUser(user, key);
    },
    rollcall.authKey,
  );
  const expected = {
    uid: "update-other", name: "After", avatar: "https://example.com/after.png", link: "https://example.com/l", role: "default",
    metadata: { new: true }, statusMessage: "changed", tags: ["keep"], createdAt: before.createdAt,
  };
  assert.deepEqual(pick(updated, ...Object.keys(expected)), expected);
  assert.deepEqual(pick(await rollcall.user("update-other"), ...Object.keys(expected)), expected);
});

inApp("updateUser of an unknown user", async (app) => {
  const update = (key) => CometChat.updateUser(new CometChat.User({ uid: "update-nobody", name: "X" }), key);
  await assert.rejects(app.sdk(update, rollcall.authKey), { code: "ERR_UID_NOT_FOUND" });
  await app.tab.expectRefusals("404 PUT /users/update-nobody");
});

inApp("updateUser of the logged-in user keeps its session", async (app) => {
  await rollcall.createUser("update-self", { name: "Before" });
  const { authToken } = await app.loginAs("update-self");
  await app.sdk((key) => CometChat.updateUser(new CometChat.User({ uid: "update-self", name: "After" }), key), rollcall.authKey);
  assert.deepEqual(pick(await app.loggedInUser(), "name", "authToken"), { name: "After", authToken });
  await app.reload();
  assert.deepEqual(pick(await app.loggedInUser(), "name", "authToken"), { name: "After", authToken });
  assert.equal((await app.sdk(() => CometChat.getUser("update-self"))).name, "After");
});

inApp("createUser and updateUser of others leave the session of the logged-in user alone", async (app) => {
  await rollcall.createUser("bystander");
  const { authToken } = await app.loginAs("bystander");
  await app.sdk(async (key) => {
    await CometChat.createUser(new CometChat.User({ uid: "bystander-2", name: "Made" }), key);
    await CometChat.updateUser(new CometChat.User({ uid: "bystander-2", name: "Changed" }), key);
  }, rollcall.authKey);
  assert.equal((await app.sdk(() => CometChat.getUser("bystander-2"))).name, "Changed");
  const me = await app.sdk(() => CometChat.updateCurrentUserDetails(new CometChat.User({ uid: "bystander", name: "Still me" })));
  assert.deepEqual(pick(me, "uid", "authToken"), { uid: "bystander", authToken });
  assert.equal((await rollcall.user("bystander")).name, "Still me");
});

inApp("private metadata is hidden from the SDK, and kept by what a user changes", async (app) => {
  const metadata = { shown: 1, "@private": { crm: 42 } };
  await rollcall.createUser("private-me", { metadata });
  assert.deepEqual((await app.loginAs("private-me")).metadata, { shown: 1 });
  const updated = await app.sdk(() =>
    CometChat.updateCurrentUserDetails(new CometChat.User({ uid: "private-me", name: "Me", metadata: { shown: 2, "@private": "mine" } })),
  );
  assert.deepEqual(updated.metadata, { shown: 2 });
  assert.deepEqual((await rollcall.user("private-me")).metadata, { shown: 2, "@private": { crm: 42 } });
});

inApp("private metadata is kept by what an auth key changes", async (app) => {
  await rollcall.createUser("private-other", { metadata: { shown: 1, "@private": { crm: 42 } } });
  const update = (key) => CometChat.updateUser(new CometChat.User({ uid: "private-other", name: "X", metadata: { shown: 2, "@private": "mine" } }), key);
  assert.deepEqual((await app.sdk(update, rollcall.authKey)).metadata, { shown: 2 });
  assert.deepEqual((await rollcall.user("private-other")).metadata, { shown: 2, "@private": { crm: 42 } });
});

inApp("updateCurrentUserDetails changes the profile but not the role, and the session outlives a reload", async (app) => {
  await rollcall.rest("POST", "/roles", { role: "moderator", name: "Moderator" });
  await rollcall.createUser("update-me", { name: "Before" });
  const { authToken } = await app.loginAs("update-me");
  const updated = await app.sdk(() => {
    const user = new CometChat.User("update-me");
    user.setName("After");
    user.setStatusMessage("busy");
    user.setTags(["x"]);
    user.setRole("moderator");
    return CometChat.updateCurrentUserDetails(user);
  });
  const expected = { uid: "update-me", name: "After", statusMessage: "busy", tags: ["x"], role: "default" };
  assert.deepEqual(pick(updated, ...Object.keys(expected)), expected);
  assert.deepEqual(pick(await rollcall.user("update-me"), ...Object.keys(expected)), expected);

  await app.reload();
  assert.deepEqual(pick(await app.loggedInUser(), "name", "role", "authToken"), { name: "After", role: "default", authToken });
  assert.equal((await app.sdk(() => CometChat.getUser("update-me"))).statusMessage, "busy");
});

inApp("updateCurrentUserDetails refuses bad fields and changes nothing", async (app) => {
  await rollcall.createUser("update-me-badly", { name: "Before" });
  await app.loginAs("update-me-badly");
  const update = () => CometChat.updateCurrentUserDetails(new CometChat.User({ uid: "update-me-badly", name: "x".repeat(101) }));
  await assert.rejects(app.sdk(update), (error) => error.code === "ERR_BAD_REQUEST" && "name" in error.details);
  assert.equal((await rollcall.user("update-me-badly")).name, "Before");
  assert.equal((await app.loggedInUser()).name, "Before");
  await app.tab.expectRefusals("400 PUT /me");
});

inApp("getUser finds others, and tells when there is nobody", async (app) => {
  await rollcall.createUser("viewer");
  await rollcall.createUser("subject", { name: "Subject", statusMessage: "hello" });
  await app.loginAs("viewer");
  const found = await app.sdk(() => CometChat.getUser("subject"));
  assert.deepEqual(pick(found, "uid", "name", "statusMessage", "status", "hasBlockedMe", "blockedByMe", "conversationId"), {
    uid: "subject", name: "Subject", statusMessage: "hello", status: "offline", hasBlockedMe: false, blockedByMe: false,
    conversationId: "subject_user_viewer",
  });
  await assert.rejects(app.sdk(() => CometChat.getUser("nobody")), { code: "ERR_UID_NOT_FOUND" });
  await assert.rejects(app.sdk(() => CometChat.getUser("no body é")), { code: "ERR_UID_NOT_FOUND" });
  assert.equal((await app.loggedInUser()).uid, "viewer", "not finding somebody logs nobody out");
  await app.tab.expectRefusals("404 GET /users/nobody", "404 GET /users/no%20body%20%C3%A9");
});

inApp("a call without a login is refused by SDK and server alike", async (app) => {
  await assert.rejects(app.sdk(() => CometChat.getUser("anybody")), { code: "USER_NOT_LOGED_IN" });
  await app.tab.expectRefusals("401 GET /users/anybody");
});

inApp("a users request pages to the end and stops there", async (app) => {
  const uids = ["paged-1", "paged-2", "paged-3", "paged-4", "paged-5"];
  for (const uid of uids) await rollcall.createUser(uid, { name: `Paged ${uid.at(-1)}`, tags: ["paged", "a, b"] });
  await rollcall.createUser("pager", { tags: ["paged"] });
  await app.loginAs("pager");
  const pages = await app.sdk(async () => {
    const request = new CometChat.UsersRequestBuilder().setLimit(2).setTags(["paged"]).withTags(true).sortBy("name").build();
    const pages = [];
    for (let page = 0; page < 5; page++) pages.push(await request.fetchNext());
    return pages;
  });
  assert.deepEqual(pages.map((page) => page.map((user) => user.uid)), [uids.slice(0, 2), uids.slice(2, 4), uids.slice(4), [], []]);
  assert.deepEqual(pages[0][0].tags.toSorted(), ["a, b", "paged"]);

  const found = await app.sdk(async () => {
    const search = (build) => build(new CometChat.UsersRequestBuilder().setLimit(30)).build().fetchNext();
    return {
      keyword: await search((builder) => builder.setSearchKeyword("paged 3")),
      tag: await search((builder) => builder.setTags(["a, b"])),
      uids: await search((builder) => builder.setUIDs(["paged-5", "paged-1", "nobody"])),
    };
  });
  assert.deepEqual(found.keyword.map((user) => user.uid), ["paged-3"]);
  assert.deepEqual(found.tag.map((user) => user.uid).toSorted(), uids);
  assert.deepEqual(found.uids.map((user) => user.uid).toSorted(), ["paged-1", "paged-5"]);
});

inApp("a reload finds the session and goes on with it, without a new login", async (app) => {
  await rollcall.createUser("reloader", { name: "Reloader" });
  const { authToken } = await app.loginAs("reloader");
  app.tab.takeCalls();
  await app.reload();
  assert.deepEqual(pick(await app.loggedInUser(), "uid", "name", "authToken"), { uid: "reloader", name: "Reloader", authToken });
  assert.equal((await app.sdk(() => CometChat.getUser("reloader"))).name, "Reloader");
  assert.deepEqual(app.tab.takeCalls(), ["POST /v3.0/ping", "GET /v3.0/users/reloader"]);
});

inApp("a revoked token logs the client out with its next call", async (app) => {
  await rollcall.createUser("revoked");
  const { authToken } = await app.loginAs("revoked");
  await app.takeEvents();
  await rollcall.rest("DELETE", `/users/revoked/auth_tokens/${authToken}`);
  await assert.rejects(app.sdk(() => CometChat.getUser("revoked")), tokenUnknown);
  assert.equal(await app.loggedInUser(), null);
  assert.deepEqual(await app.takeEvents(), ["logoutSuccess"]);
  await app.tab.expectRefusals("401 GET /users/revoked");

  assert.equal((await app.loginAs("revoked")).uid, "revoked");
});

inApp("a revoked token logs an idle client out with its next ping", async (app) => {
  await rollcall.createUser("idler");
  await app.loginAs("idler");
  await app.passReport();
  app.tab.takeCalls();
  await app.passPing();
  assert.deepEqual(app.tab.takeCalls(), ["POST /v3.0/ping"]);
  assert.equal((await app.loggedInUser()).uid, "idler", "a ping with a valid token changes nothing");

  await app.takeEvents();
  await rollcall.rest("DELETE", "/users/idler/auth_tokens");
  const loggedOut = app.sdk(() => new Promise((resolve) => CometChat.addLoginListener("once", new CometChat.LoginListener({ logoutSuccess: resolve }))));
  await app.pass(60);
  await loggedOut;
  assert.equal(await app.loggedInUser(), null);
  assert.deepEqual(await app.takeEvents(), ["logoutSuccess"]);
  await app.tab.expectRefusals("401 POST /ping", "401 GET /me");

  app.tab.takeCalls();
  await app.pass(120);
  await app.loginAs("idler");
  assert.deepEqual(app.tab.takeCalls(), ["POST /users/idler/auth_tokens", "PUT /me", "POST /v3.0/ping"], "a client that is logged out does not ping");
});

// changeNextPing changes one header of the next ping, as time would. The route stays: taking it away may hide from the
// test what the SDK calls at that moment.
async function changeNextPing(app, name, value) {
  let changed = false;
  await app.page.route("**/ping", (route) => {
    const headers = route.request().headers();
    if (!changed) headers[name] = value;
    changed = true;
    return route.continue({ headers });
  });
}

inApp("a ping with an outdated JWT makes the client fetch another", async (app) => {
  await rollcall.createUser("refresher");
  await app.loginAs("refresher");
  await app.passReport();
  app.tab.takeCalls();
  await app.takeEvents();
  await changeNextPing(app, "authorization", "Bearer outdated");
  const fetched = app.page.waitForResponse("**/me");
  await app.pass(60);
  const { jwt } = (await (await fetched).json()).data;
  assert.deepEqual(app.tab.takeCalls(), ["POST /v3.0/ping", "GET /v3.0/me"]);
  await app.tab.expectRefusals("401 POST /ping");

  const next = app.page.waitForRequest("**/ping");
  await app.passPing();
  assert.equal((await next).headers().authorization, `Bearer ${jwt}`);
  assert.equal((await app.loggedInUser()).uid, "refresher");
  assert.deepEqual(await app.takeEvents(), []);
});

inApp("a ping with outdated settings makes the client log in again with the same token", async (app) => {
  await rollcall.createUser("restarter");
  const { authToken } = await app.loginAs("restarter");
  await app.passReport();
  app.tab.takeCalls();
  await app.takeEvents();
  await changeNextPing(app, "settingshash", "outdated");
  const restarted = app.page.waitForResponse((response) => response.url().endsWith("/ping") && response.ok());
  await app.pass(60);
  await restarted;
  assert.deepEqual(app.tab.takeCalls(), ["POST /v3.0/ping", "PUT /me", "POST /v3.0/ping"]);
  await app.tab.expectRefusals("409 POST /ping");
  assert.equal((await app.sdk(() => CometChat.getUser("restarter"))).uid, "restarter");
  assert.deepEqual(pick(await app.loggedInUser(), "uid", "authToken"), { uid: "restarter", authToken });
  assert.equal((await rollcall.tokens("restarter")).length, 1);
});

inApp("logout ends this token and no other", async (app) => {
  await rollcall.createUser("leaver");
  const other = await rollcall.mint("leaver");
  const { authToken } = await app.loginAs("leaver");
  app.tab.takeCalls();
  await app.takeEvents();
  assert.equal((await app.sdk(() => CometChat.logout())).success, true);
  assert.deepEqual(app.tab.takeCalls(), ["DELETE /v3.0/me"]);
  assert.deepEqual(await app.takeEvents(), ["logoutSuccess"]);
  assert.equal(await app.loggedInUser(), null);

  assert.equal((await rollcall.call("GET", `/users/leaver/auth_tokens/${authToken}`)).error.code, "ERR_AUTH_TOKEN_NOT_FOUND");
  assert.equal((await rollcall.tokens("leaver")).length, 1);
  await assert.rejects(app.sdk((token) => CometChat.login(token), authToken), tokenUnknown);
  await app.tab.expectRefusals("401 PUT /me");
  assert.equal((await app.login(other)).authToken, other);
  assert.equal((await app.sdk(() => CometChat.getUser("leaver"))).uid, "leaver");
});

inApp("logout with a token that is revoked already succeeds", async (app) => {
  await rollcall.createUser("late-leaver");
  await app.loginAs("late-leaver");
  await rollcall.rest("DELETE", "/users/late-leaver/auth_tokens");
  await app.sdk(() => CometChat.logout());
  assert.equal(await app.loggedInUser(), null);
  await app.tab.expectRefusals("401 DELETE /me");
});

inApp("another user can log in after a logout", async (app) => {
  await rollcall.createUser("first-user");
  await rollcall.createUser("second-user");
  await app.loginAs("first-user");
  await app.sdk(() => CometChat.logout());
  assert.equal((await app.loginAs("second-user")).uid, "second-user");
  await app.reload();
  assert.equal((await app.loggedInUser()).uid, "second-user");
});

inApp("the SDK's report about its device is taken once", async (app) => {
  await rollcall.createUser("device");
  await app.loginAs("device");
  const report = await app.passReport();
  assert.equal(report.status(), 200);
  assert.equal((await report.json()).data.sessionId, report.request().postDataJSON().sessionId);

  await app.reload();
  app.tab.takeCalls();
  await app.afterPing(() => app.pass(60));
  assert.deepEqual(app.tab.takeCalls(), ["POST /v3.0/ping"]);
});

inApp("getJWT tells others who the user is", async (app) => {
  await rollcall.createUser("bearer");
  await app.loginAs("bearer");
  const { jwt } = await app.sdk(() => CometChat.getJWT({ order: 7 }));
  const claims = JSON.parse(Buffer.from(jwt.split(".")[1], "base64url"));
  assert.deepEqual(pick(claims, "sub", "app", "passthrough"), { sub: "bearer", app: rollcall.appId, passthrough: { order: 7 } });
});
