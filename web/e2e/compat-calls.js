// What the official SDK documents for users, presence, blocking and authentication, as calls that run in a page in which
// CometChat is one SDK or the other. Each returns what can be observed. key is the auth key; attempt turns what is thrown into
// something to compare.

// In the order in which they run: the later ones build on what the earlier ones left.
export const calls = {
  "init: before it": ({ attempt }) =>
    attempt({ login: () => CometChat.login("ada", "key"), getUser: () => CometChat.getUser("ada") }),
  "init: blank app id": ({ attempt }) => attempt({ init: () => CometChat.init("", new CometChat.AppSettingsBuilder().overrideClientHost("h").build()) }),
  "AppSettingsBuilder": () => {
    const builder = new CometChat.AppSettingsBuilder();
    const settings = builder.setRegion("US").subscribePresenceForFriends().subscribePresenceForRoles(["a", "b"]).enableAutoJoinForGroups(false).autoEstablishSocketConnection(false)
      .overrideAdminHost("admin").overrideClientHost("client").build();
    return [
      settings.getSubscriptionType(), settings.getRoles(), settings.getRegion(), settings.getIsAutoJoinEnabled(), settings.shouldAutoEstablishSocketConnection(), settings.getAdminHost(),
      settings.getClientHost(), new CometChat.AppSettingsBuilder().subscribePresenceForAllUsers().build().getSubscriptionType(),
      new CometChat.AppSettingsBuilder().build().getSubscriptionType(), new CometChat.AppSettingsBuilder().build().getIsAutoJoinEnabled(),
    ];
  },
  "AppSettingsBuilder: setStorageMode": () => new CometChat.AppSettingsBuilder().setStorageMode("session").build().getStorageMode(),
  "User: every setter and getter": () => {
    const user = new CometChat.User("ada", "Ada");
    const fresh = JSON.parse(JSON.stringify(user));
    user.setUid("bob");
    user.setName("Bob");
    user.setName("");
    user.setAvatar("https://example.com/a.png");
    user.setLink("https://example.com");
    user.setRole("admin");
    user.setMetadata({ a: [1] });
    user.setStatusMessage("hi");
    user.setTags(["x"]);
    user.setStatus("online");
    user.setLastActiveAt(17);
    user.setHasBlockedMe(true);
    user.setBlockedByMe(true);
    user.setDeactivatedAt(18);
    user.setAuthToken("a token");
    const got = Object.fromEntries(
      ["Uid", "Name", "Avatar", "Link", "Role", "Metadata", "StatusMessage", "Tags", "Status", "LastActiveAt", "HasBlockedMe", "BlockedByMe", "DeactivatedAt", "AuthToken"]
        .map((field) => [field, user[`get${field}`]()]),
    );
    return { fresh, got, user, object: new CometChat.User({ uid: "cy", name: "Cy", tags: ["t"] }) };
  },
  "createUser: a User": ({ key }) => {
    const user = new CometChat.User("ada");
    user.setName("Ada Lovelace");
    user.setAvatar("https://example.com/ada.png");
    user.setLink("https://example.com/ada");
    user.setRole("default");
    user.setMetadata({ team: { name: "blue" } });
    user.setStatusMessage("first");
    user.setTags(["maths", "a, b"]);
    return CometChat.createUser(user, key);
  },
  "createUser: a plain object": ({ key }) => CometChat.createUser({ uid: "BOB", name: "Bob" }, key),
  "createUser: what is refused": ({ key, attempt }) => {
    const create = (fields, authKey = key) => () => CometChat.createUser({ uid: "x", name: "X", ...fields }, authKey);
    return attempt({
      "blank key": create({}, ""), "wrong key": create({}, "wrong"), "no uid": () => CometChat.createUser({ name: "X" }, key), "blank uid": create({ uid: "" }),
      "uid not a text": create({ uid: 17 }), "no name": () => CometChat.createUser({ uid: "x" }, key), "blank name": create({ name: "" }),
      "empty avatar": create({ avatar: "" }), "empty link": create({ link: "" }), "empty role": create({ role: "" }), "empty metadata": create({ metadata: "" }),
      "empty statusMessage": create({ statusMessage: "" }), "empty tags": create({ tags: [] }), "tags not a list": create({ tags: "x" }),
      "uid with a blank": create({ uid: "a b" }), "uid taken": create({ uid: "ada" }), "unknown role": create({ role: "unknown" }),
    });
  },
  "before a login": ({ attempt }) =>
    attempt({ "getLoggedinUser": () => CometChat.getLoggedinUser(), getConnectionStatus: () => CometChat.getConnectionStatus(), logout: () => CometChat.logout() }),
  "login: what is refused": ({ attempt, key }) =>
    attempt({ "blank uid": () => CometChat.login("", key), "blank key": () => CometChat.login("ada", ""), "unknown uid": () => CometChat.login("nobody-there", key) }),
  "login: with uid and key": ({ key }) => CometChat.login("ada", key),
  "login: two at once, and again": async ({ key, attempt }) =>
    attempt({ again: () => CometChat.login("ada", key), "getLoggedinUser": () => CometChat.getLoggedinUser(), "getLoggedInUser": () => CometChat.getLoggedInUser() }),
  "addLoginListener": () => events.splice(0),
  "getUser": ({ attempt }) =>
    attempt({ found: () => CometChat.getUser("bob"), self: () => CometChat.getUser("ada"), unknown: () => CometChat.getUser("nobody-there"), blank: () => CometChat.getUser(""), "not a text": () => CometChat.getUser(17) }),
  "updateUser": ({ key, attempt }) => {
    const user = new CometChat.User("bob");
    user.setName("Robert");
    user.setTags(["new"]);
    return attempt({
      changed: () => CometChat.updateUser(user, key), "plain object": () => CometChat.updateUser({ uid: "bob", statusMessage: "plain" }, key),
      "blank key": () => CometChat.updateUser(user, ""), "no uid": () => CometChat.updateUser({ name: "x" }, key), "blank name": () => CometChat.updateUser({ uid: "bob", name: "" }, key),
      "unknown uid": () => CometChat.updateUser(new CometChat.User("nobody-there", "N"), key), "wrong key": () => CometChat.updateUser(user, "wrong"),
    });
  },
  "updateUser: the one who is logged in": async ({ key }) => {
    await CometChat.updateUser(new CometChat.User("ada", "Ada L."), key);
    return (await CometChat.getLoggedinUser()).getName();
  },
  "updateCurrentUserDetails": async ({ attempt }) => {
    const user = new CometChat.User("ada");
    user.setName("Ada again");
    user.setRole("admin");
    return attempt({
      changed: () => CometChat.updateCurrentUserDetails(user), kept: () => CometChat.getLoggedinUser(), stored: () => CometChat.getUser("ada"),
      "blank name": () => CometChat.updateCurrentUserDetails({ uid: "ada", name: "" }),
    });
  },
  "UsersRequestBuilder: getters": ({ attempt }) => {
    const request = new CometChat.UsersRequestBuilder().setLimit(7).setSearchKeyword("x").setStatus("online").setRole("r").setRoles(["a"]).friendsOnly(true)
      .setTags(["t"]).withTags(true).hideBlockedUsers(true).setUIDs(["u"]).sortBy("name").sortByOrder("desc").searchIn(["uid"]).build();
    const getters = [
      "getLimit", "getSearchKeyword", "getStatus", "getRole", "getRoles", "isFriendsOnly", "getTags", "isWithTags", "isHideBlockedUsers", "getUIDs", "getSortBy",
      "getSortOrder", "getSearchIn",
    ];
    return attempt({
      ...Object.fromEntries(getters.map((getter) => [getter, () => request[getter]()])),
      getPage: () => new CometChat.UsersRequestBuilder().setLimit(7).setPage(2).build().getPage(),
    });
  },
  "UsersRequestBuilder: fetchNext to the end": async () => {
    const request = new CometChat.UsersRequestBuilder().setLimit(2).setSearchKeyword("lister").sortBy("name").build();
    const pages = [];
    do pages.push((await request.fetchNext()).map((user) => user.getUid()));
    while (pages.at(-1).length > 0 && pages.length < 9);
    return { pages, again: await request.fetchNext() };
  },
  "UsersRequestBuilder: every setter": ({ attempt }) => {
    const builder = () => new CometChat.UsersRequestBuilder().setLimit(50).setSearchKeyword("");
    const lists = {
      plain: (b) => b, role: (b) => b.setRole("star"), roles: (b) => b.setRoles(["star", "default"]), both: (b) => b.setRole("star").setRoles(["default"]),
      tags: (b) => b.setTags(["a, b"]), withTags: (b) => b.setTags(["maths"]).withTags(true), friends: (b) => b.friendsOnly(true), hidden: (b) => b.hideBlockedUsers(true),
      uids: (b) => b.setUIDs(["bob"]), down: (b) => b.sortBy("name").sortByOrder("desc"), offline: (b) => b.setStatus("offline"), online: (b) => b.setStatus("online"),
      inName: (b) => b.searchIn(["name"]), inUid: (b) => b.searchIn(["uid"]), page: (b) => b.setLimit(2).setPage(1), "not asked": (b) => b.withTags(false).friendsOnly(false).hideBlockedUsers(false),
    };
    const fetch = (set) => async () => (await set(builder()).build().fetchNext()).map((user) => [user.getUid(), user.getTags()]);
    return attempt(Object.fromEntries(Object.entries(lists).map(([name, set]) => [name, fetch(set)])));
  },
  "UsersRequestBuilder: what is refused": ({ attempt }) => {
    const fetch = (set) => () => set(new CometChat.UsersRequestBuilder().setLimit(5)).build().fetchNext();
    return attempt({
      "no limit": () => new CometChat.UsersRequestBuilder().build().fetchNext(), "limit 101": fetch((b) => b.setLimit(101)), "limit -1": fetch((b) => b.setLimit(-1)), "limit NaN": fetch((b) => b.setLimit("x")),
      status: fetch((b) => b.setStatus("away")), roles: fetch((b) => b.setRoles("x")), tags: fetch((b) => b.setTags("x")), uids: fetch((b) => b.setUIDs("x")), sortBy: fetch((b) => b.sortBy("age")),
      sortOrder: fetch((b) => b.sortByOrder("up")), searchIn: fetch((b) => b.searchIn("x")), searchPlace: fetch((b) => b.searchIn(["mail"])), hide: fetch((b) => b.hideBlockedUsers("x")),
      friends: fetch((b) => b.friendsOnly("x")), withTags: fetch((b) => b.withTags("x")),
    });
  },
  "blockUsers and unblockUsers": async ({ attempt }) => {
    const flags = async () => {
      const user = await CometChat.getUser("bob");
      return [user.getBlockedByMe(), user.getHasBlockedMe()];
    };
    return attempt({
      block: () => CometChat.blockUsers(["bob", "nobody-there"]), blocked: flags, again: () => CometChat.blockUsers(["bob"]),
      empty: () => CometChat.blockUsers([]), "not a list": () => CometChat.blockUsers("bob"), unblock: () => CometChat.unblockUsers(["bob"]), unblocked: flags,
      "unblock none": () => CometChat.unblockUsers([]), "unblock no list": () => CometChat.unblockUsers("bob"),
    });
  },
  "BlockedUsersRequestBuilder": async ({ attempt }) => {
    await CometChat.blockUsers(["bob", "lister-1"]);
    const builder = () => new CometChat.BlockedUsersRequestBuilder().setLimit(10);
    const list = (set) => async () => (await set(builder()).build().fetchNext()).map((user) => user.getUid()).sort();
    const request = builder().setSearchKeyword("x").blockedByMe().build();
    return attempt({
      all: list((b) => b), mine: list((b) => b.blockedByMe()), theirs: list((b) => b.hasBlockedMe()),
      both: list((b) => b.setDirection(CometChat.BlockedUsersRequest.directions.BOTH)), searched: list((b) => b.setSearchKeyword("robert")), behind: list((b) => b.setPage(4)),
      "no limit": () => new CometChat.BlockedUsersRequestBuilder().build().fetchNext(), "limit 101": list((b) => b.setLimit(101)), direction: list((b) => b.setDirection("up")),
      getters: () => [request.getLimit(), request.getSearchKeyword(), request.getDirection()], getPage: () => builder().setPage(3).build().getPage(),
      "unblock": () => CometChat.unblockUsers(["bob", "lister-1"]),
    });
  },
  "getOnlineUserCount": () => CometChat.getOnlineUserCount(),
  "getConnectionStatus": () => [CometChat.getConnectionStatus(), CometChat.CONNECTION_STATUS.CONNECTED, CometChat.CONNECTION_STATUS.CONNECTING, CometChat.CONNECTION_STATUS.DISCONNECTED, CometChat.USER_STATUS],
  "getAppSettings": async () => {
    const { CHAT_API_VERSION, APP_VERSION, MODE } = await CometChat.getAppSettings();
    return [CHAT_API_VERSION, APP_VERSION, MODE];
  },
  "getJWT": async () => typeof (await CometChat.getJWT("anything")).jwt,
  "removeLoginListener and removeConnectionListener": () => {
    CometChat.addLoginListener("other", new CometChat.LoginListener({ loginSuccess: () => events.push("other") }));
    CometChat.removeLoginListener("other");
    CometChat.addConnectionListener("other", new CometChat.ConnectionListener({ onConnected: () => connections.push("other") }));
    CometChat.removeConnectionListener("other");
    CometChat.removeUserListener("there is none");
  },
  "addConnectionListener": () => connections.splice(0),
  "isInitialized": () => CometChat.isInitialized(),
};
