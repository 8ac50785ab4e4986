// A backend on Express whose members chat on Rollcall. The accounts are its own, as in any app; README.md says what
// happens where.
import { randomBytes, randomUUID, scrypt, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import express from "express";

const rollcallURL = process.env.ROLLCALL_URL ?? "http://127.0.0.1:8080";
const { appId, restApiKey } = readCredentials(process.env.ROLLCALL_CREDENTIALS ?? "data/credentials.json");

function readCredentials(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    console.error(`${error.message}\nHas Rollcall been started once? ROLLCALL_CREDENTIALS names the credentials.json of its data directory.`);
    process.exit(1);
  }
}

// rollcall makes a call with the REST API key. It opens everything, and never leaves this backend.
async function rollcall(method, path, body) {
  const response = await fetch(`${rollcallURL}/v3${path}`, {
    method,
    headers: { appId, apikey: restApiKey, ...(body && { "content-type": "application/json" }) },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(5000),
  });
  const { data, error } = await response.json();
  if (error) throw new Refusal(502, `Rollcall: ${error.message} (${error.code})`);
  return data;
}

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The accounts and who is logged in to this app. Yours are in your database; these are gone with the process.
const accounts = new Map(); // by e-mail address
const sessions = new Map(); // by what is in the cookie

const hash = (password, salt) => promisify(scrypt)(password, salt, 32);

// logIn opens a session of this app, and mints the token with which the page logs in to Rollcall.
async function logIn(response, account) {
  const id = randomBytes(24).toString("hex");
  sessions.set(id, account);
  response.cookie("session", id, { httpOnly: true, sameSite: "lax" }); // and secure: true, behind TLS
  const { authToken } = await rollcall("POST", `/users/${account.uid}/auth_tokens`, { platform: "web" });
  response.json({ token: authToken });
}

function loggedIn(request) {
  const [, id] = /(?:^|; )session=(\w+)/.exec(request.headers.cookie ?? "") ?? [];
  const account = sessions.get(id);
  if (!account) throw new Refusal(401, "Log in first.");
  return account;
}

// textOf is a field of a request, which must be a text.
function textOf(request, field) {
  const text = request.body?.[field];
  if (typeof text !== "string" || !text.trim()) throw new Refusal(400, `The ${field} is missing.`);
  return text.trim();
}

const app = express();
app.use(express.json());

// 1. Register: the account is made here, and its user in Rollcall. Made with upsert, the call can be repeated when its
// answer was lost.
app.post("/api/register", async (request, response) => {
  const [email, password, name] = ["email", "password", "name"].map((field) => textOf(request, field));
  if (accounts.has(email)) throw new Refusal(409, "There is an account with this address. Log in instead.");
  const salt = randomBytes(16);
  const account = { uid: `member-${randomUUID()}`, email, name, salt, hash: await hash(password, salt) };
  await rollcall("PUT", `/users/${account.uid}?upsert=true`, { name });
  accounts.set(email, account);
  await logIn(response, account);
});

// 2. Log in: the password is checked here. Who had gone is active again.
app.post("/api/login", async (request, response) => {
  const [email, password] = ["email", "password"].map((field) => textOf(request, field));
  const account = accounts.get(email);
  const given = await hash(password, account?.salt ?? "none");
  if (!account || !timingSafeEqual(given, account.hash)) throw new Refusal(401, "This is not the password of an account.");
  if (account.deactivated) await rollcall("PUT", "/users", { uidsToActivate: [account.uid] });
  account.deactivated = false;
  await logIn(response, account);
});

// 3. is in the page: it logs in to Rollcall with the token, and changes what is the member's own to say, with PUT /me.

// 4. Update, and go: what this app decides is changed here.
app.put("/api/name", async (request, response) => {
  const account = loggedIn(request);
  const name = textOf(request, "name");
  await rollcall("PUT", `/users/${account.uid}`, { name });
  account.name = name;
  response.json({ name });
});

// Deactivate: nobody sees the user any more, its tokens and sockets end, and all of it can come back.
app.post("/api/deactivate", async (request, response) => {
  const account = loggedIn(request);
  await rollcall("DELETE", `/users/${account.uid}`);
  account.deactivated = true;
  endSessions(account);
  response.json({});
});

// Erase: the user is gone for good, with everything that was known about it.
app.delete("/api/account", async (request, response) => {
  const account = loggedIn(request);
  await rollcall("DELETE", `/users/${account.uid}`, { permanent: true });
  accounts.delete(account.email);
  endSessions(account);
  response.json({});
});

app.post("/api/logout", (request, response) => {
  endSessions(loggedIn(request));
  response.json({});
});

function endSessions(account) {
  for (const [id, other] of sessions) if (other === account) sessions.delete(id);
}

// The page, and what it needs to know.
const folder = fileURLToPath(new URL(".", import.meta.url));
const sdk = fileURLToPath(new URL("dist", import.meta.resolve("@rollcall/sdk/package.json")));
app.get("/", (_, response) => response.sendFile("page.html", { root: folder }));
app.get("/rollcall.js", (_, response) => response.sendFile("rollcall.js", { root: sdk }));
app.get("/api/config", (_, response) => response.json({ appId, host: rollcallURL }));

app.use((error, _request, response, _next) => {
  if (!error.status) console.error(error);
  const status = error.status ?? 503;
  response.status(status).json({ error: error.status ? error.message : "The chat cannot be reached. Try again in a moment." });
});

const server = app.listen(Number(process.env.PORT ?? 3002), "127.0.0.1", () => {
  console.log(`Open http://127.0.0.1:${server.address().port}/`);
});
