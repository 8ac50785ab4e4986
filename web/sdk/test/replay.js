// Makes the requests of a transcript, through the SDK where it has a call that sends the same, and otherwise as they are.
// It is started by TestTranscriptsThroughSDK in internal/apitest, whose proxy compares what goes over the wire; what the SDK
// makes of it is compared here. Standard input has the exchanges, standard output gets what was made through the SDK.
import assert from "node:assert/strict";
import { text } from "node:stream/consumers";

import { RollcallClient, RollcallError, User } from "@rollcall/sdk";

const { address, exchanges } = JSON.parse(await text(process.stdin));

const decoded = (path) => decodeURIComponent(path);
const list = (value) => value?.split(",").map(decoded);
const on = (value) => (value === undefined ? undefined : ["1", "true"].includes(value));

// The calls of the SDK by route. Each gets the parts of the path, the query and the body.
const calls = [
  ["GET", /^\/users\/([^/]+)$/, (client, [uid]) => client.users.get(uid)],
  ["GET", /^\/users$/, (client, _, q) =>
    client.users.list({
      search: q.searchKey && decoded(q.searchKey), searchIn: list(q.searchIn), status: q.status === "available" ? "online" : q.status, roles: list(q.roles), tags: list(q.tags),
      uids: list(q.uids), friendsOnly: on(q.friendsOnly), hideBlockedUsers: on(q.hideBlockedUsers), withTags: on(q.withTags), sortBy: q.sortBy, sortOrder: q.sortOrder,
      limit: q.per_page ?? q.perPage, page: q.page,
    })],
  ["POST", /^\/users$/, (client, _, __, body, key) => client.users.create(body, key)],
  ["PUT", /^\/users\/([^/]+)$/, (client, [uid], _, body, key) => client.users.update({ uid, ...body }, key)],
  ["PUT", /^\/me$/, (client, _, __, body) => client.updateMe(body)],
  ["GET", /^\/settings$/, (client) => client.settings()],
  ["POST", /^\/me\/jwt$/, async (client, _, __, body) => ({ jwt: await client.jwt(body?.passthrough) })],
  ["DELETE", /^\/me$/, (client) => client.logout()],
  ["POST", /^\/blockedusers$/, (client, _, __, body) => client.blocks.add(body?.blockedUids)],
  ["DELETE", /^\/blockedusers$/, (client, _, __, body) => client.blocks.remove(body?.blockedUids)],
  ["GET", /^\/blockedusers$/, (client, _, q) => client.blocks.list({ direction: q.direction, search: q.searchKey, limit: q.per_page ?? q.perPage, page: q.page })],
  ["GET", /^\/friends$/, (client, _, q) => client.friends.list({ search: q.searchKey, limit: q.per_page ?? q.perPage, page: q.page })],
  ["DELETE", /^\/friends$/, (client, _, __, body) => client.friends.remove(body?.friends)],
  ["POST", /^\/friend_requests$/, (client, _, __, body) => client.friends.ask(body?.uids)],
  ["GET", /^\/friend_requests$/, (client, _, q) => client.friends.requests({ direction: q.direction, search: q.searchKey, limit: q.per_page ?? q.perPage, page: q.page })],
  ["PUT", /^\/friend_requests$/, async (client, _, __, body) => {
    const [what] = Object.keys(body ?? {});
    return client.friends[what](body[what]);
  }],
  ["POST", /^\/presence\/query$/, async (client, _, __, body) => ({ users: await client.presence.query(body?.uids) })],
  ["GET", /^\/presence\/online-count$/, async (client) => ({ onlineUsersCount: await client.presence.count() })],
];

function matching({ method, path }) {
  const [route, search = ""] = path.replace(/^\/+(v3(\.0)?\/+)?/, "/").split("?");
  const query = Object.fromEntries(search.split("&").filter(Boolean).map((pair) => pair.split(/=(.*)/s)));
  for (const [verb, pattern, call] of calls) {
    const parts = verb === method && route.match(pattern);
    if (parts) return { call, pattern, parts: parts.slice(1).map(decoded), query };
  }
}

// plain is a query in one spelling.
function plain(url) {
  const known = { perPage: "per_page" };
  const pairs = [...new URL(url, address).searchParams].map(([name, value]) => [known[name] ?? name, value === "1" && !/page/i.test(name) ? "true" : value]);
  return JSON.stringify(pairs.sort());
}

// sentBy finds out what a call sends, by making it to nobody.
function sentBy(call, options, args) {
  return new Promise((resolve) => {
    const fetch = (url, request) => {
      resolve({ url, ...request });
      return new Promise(() => {}); // no answer ever comes
    };
    Promise.resolve(call(clientFor({ ...options, fetch }), ...args)).catch(() => resolve(undefined)); // refused before it is sent
  });
}

// clientFor returns a client as the user of a token.
function clientFor({ appId, token, uid, fetch }) {
  const kept = JSON.stringify({ token: token ?? "none", user: { uid, name: uid }, jwt: "none", jwtAt: 0 });
  const storage = { getItem: () => kept, setItem() {}, removeItem() {} };
  return new RollcallClient({ appId, host: address, storage, autoConnect: false, ...(fetch && { fetch }) });
}

function alike(exchange, sent) {
  if (!sent || sent.method !== exchange.method) return false;
  if (sent.headers.authToken !== exchange.headers.authtoken || sent.headers.apikey !== exchange.headers.apikey) return false;
  const path = (url) => decodeURIComponent(new URL(url, address).pathname.replace(/^\/+(v3(\.0)?\/+)?/, "/"));
  if (path(sent.url) !== path(exchange.path) || plain(sent.url) !== plain(exchange.path)) return false;
  const body = (text) => (text === undefined || text === "" || text === "{}" ? "none" : text);
  try {
    assert.deepEqual(JSON.parse(sent.body ?? '"none"'), body(exchange.body) === "none" ? "none" : JSON.parse(exchange.body));
  } catch {
    return false;
  }
  // Names that come twice, which no library sends, are lost in parsing.
  return JSON.stringify(JSON.parse(exchange.body || "{}")).replaceAll(/\s/g, "").length === (exchange.body || "{}").replaceAll(/\s/g, "").length;
}

// The headers that the SDK can send with what a transcript has.
const usual = ["appid", "apikey", "authtoken", "content-type"];

const made = {};
let variables = {};

// learn keeps what the answers tell, for the requests that name it.
function learn(answer) {
  const token = (uid) => answer.match(new RegExp(`"authToken":"(${uid}_[0-9a-f]{40})"`))?.[1];
  const found = { $ADA_TOKEN: token("ada"), $BOB_TOKEN: token("bob"), $TOKEN_ID: answer.match(/"id":"(tok_[0-9a-f]+)"/)?.[1], $ADA_JWT: answer.match(/"jwt":"([^"]+)"/)?.[1] };
  for (const [name, value] of Object.entries(found)) if (value) variables[name] ??= value;
}

const fill = (value) => Object.entries(variables).reduce((text, [name, filled]) => text.replaceAll(name, filled), value);

for (const raw of exchanges) {
  const exchange = { ...raw, path: fill(raw.path), body: fill(raw.body), headers: Object.fromEntries(Object.entries(raw.headers).map(([name, value]) => [name, fill(value)])) };
  const { method, path, headers, body } = exchange;
  let answer;
  const watched = async (...request) => {
    const response = await fetch(...request);
    answer ??= await response.clone().text();
    return response;
  };
  const match = matching(exchange);
  const options = { appId: headers.appid, token: headers.authtoken, uid: headers.authtoken?.split("_")[0] ?? "nobody" };
  let args;
  try {
    args = match && [match.parts, match.query, body ? JSON.parse(body) : undefined, headers.apikey];
  } catch {
    // what is not JSON is sent as it is
  }
  const expressible = args && options.appId && Object.keys(headers).every((name) => usual.includes(name)) && alike(exchange, await sentBy(match.call, options, args));
  if (!expressible) {
    const response = await fetch(address + path, { method, headers, ...(body && { body }) });
    // Of a stream, the proxy has what it needs when the first event has come.
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) await response.body.cancel();
    else learn(await response.text());
    continue;
  }
  const client = clientFor({ ...options, fetch: watched });
  let result, refused;
  try {
    result = await match.call(client, ...args);
  } catch (error) {
    refused = error;
  }
  client.close();
  const { data, error, meta } = JSON.parse(answer);
  if (error) {
    assert.ok(refused instanceof RollcallError, `${raw.name}: ${refused}`);
    assert.deepEqual([refused.code, refused.message, refused.details], [error.code, error.message, error.details], raw.name);
  } else {
    assert.equal(refused, undefined, `${raw.name}: ${refused}`);
    compare(raw.name, result, data, meta);
  }
  learn(answer);
  const route = `${method} ${match.pattern.source}`;
  made[route] = (made[route] ?? 0) + 1;
}

// compare finds what of an answer the SDK has lost.
function compare(name, result, data, meta) {
  if (Array.isArray(data)) {
    assert.equal(result.total, meta.pagination.total, name);
    assert.equal(result.users.length, data.length, name);
    data.forEach((fields, i) => compareUser(name, result.users[i], fields));
  } else if (result instanceof User) {
    compareUser(name, result, data);
  } else {
    for (const [key, value] of Object.entries(result)) {
      const code = meta?.codes?.[key];
      assert.deepEqual(key === "users" ? value.map(onWire) : value, code ? { ...data[key], code } : data[key], `${name}: ${key}`);
    }
  }
}

// onWire is a presence in the server's words.
function onWire({ status, ...rest }) {
  return { ...rest, status: status === "online" ? "available" : status };
}

function compareUser(name, user, fields) {
  for (const [field, value] of Object.entries(fields)) {
    if (["authToken", "jwt", "wsChannel", "settings"].includes(field)) continue; // they stay inside
    const online = value !== "offline" || "jwt" in fields; // who is logged in here counts as online
    assert.deepEqual(user[field], field === "status" ? (online ? "online" : "offline") : value, `${name}: ${field}`);
  }
}

process.stdout.write(JSON.stringify(made));
process.exit(0);
