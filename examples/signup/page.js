// The page of the example. It calls the app's own backend to register and to log in, and then the SDK with the auth token
// that the backend has minted. Which SDK it is makes no difference: our own, or the official one.
const Chat = window.Rollcall ?? window.CometChat;

const { appId, chatHost, uid: signedInAs } = document.documentElement.dataset;

const element = (id) => document.getElementById(id);

// The app's own backend.

class Refusal extends Error {
  constructor(status, { error, field }) {
    super(error);
    this.status = status;
    this.field = field;
  }
}

async function post(path, body = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => {
    throw new Error("The app cannot be reached. Try again.");
  });
  const answer = await response.json();
  if (!response.ok) throw new Refusal(response.status, answer);
  return answer;
}

// The chat.

const tokenRevoked = "AUTH_ERR_AUTH_TOKEN_NOT_FOUND";

// inChat says whose chat is open or being opened. A logout that the SDK reports meanwhile is not the page's doing.
let inChat = "";

// initChat asks the server nothing. The SDK finds the session that it has kept, if there is one.
async function initChat() {
  const settings = new Chat.AppSettingsBuilder()
    .setRegion("us")
    .overrideAdminHost(chatHost)
    .overrideClientHost(chatHost)
    .build();
  await Chat.init(appId, settings);
  Chat.addLoginListener("page", new Chat.LoginListener({ logoutSuccess: chatHasEnded }));
}

// openChat returns the chat user with a uid: from the kept session, or from a new one with the given token. Without a
// token the backend is asked for one.
async function openChat(uid, token) {
  const kept = await Chat.getLoggedinUser();
  if (kept?.getUid() === uid && !token) {
    inChat = uid;
    return Chat.getUser(uid);
  }
  await closeChat();
  token ??= (await post("/api/chat-token")).chatToken;
  inChat = uid;
  return Chat.login(token);
}

async function closeChat() {
  inChat = "";
  if (!(await Chat.getLoggedinUser())) return;
  await Chat.logout().catch(() => {}); // the page forgets the session even when the server cannot be told
}

// chatHasEnded hears of every logout. One from outside means that somebody has revoked the token: the app follows.
async function chatHasEnded() {
  if (!inChat) return;
  inChat = "";
  await post("/api/logout").catch(() => {});
  show("log-in");
  tell("You have been logged out. Log in again to go on.");
}

async function saveProfile(uid, { name, statusMessage }) {
  const user = new Chat.User(uid);
  user.setName(name);
  user.setStatusMessage(statusMessage);
  return Chat.updateCurrentUserDetails(user);
}

// What is on the page.

const views = ["log-in", "register", "profile", "no-chat"];

function show(view) {
  quiet();
  for (const name of views) element(name).hidden = name !== view;
}

function quiet() {
  element("notice").hidden = true;
  element("problem").hidden = true;
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function tell(text) {
  element("notice").textContent = text;
  element("notice").hidden = false;
}

// complain shows what went wrong: the backend's words, the SDK's words, or where to look when nothing answered.
function complain(error, form) {
  const problem = element("problem");
  problem.textContent = error.message || "Something went wrong. Try again.";
  if (error.code === "FAILED_TO_FETCH") problem.replaceChildren(...unreachable());
  problem.hidden = false;
  const input = error.field && form?.elements.namedItem(error.field);
  if (!input) return;
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

function unreachable() {
  const link = document.createElement("a");
  link.href = chatHost.includes("://") ? chatHost : `https://${chatHost}/`;
  link.textContent = link.href;
  return ["The browser cannot reach the chat. If its certificate is self-signed, open ", link, " once and accept it."];
}

function showProfile(user) {
  show("profile");
  const name = user.getName();
  element("profile-name").textContent = name;
  element("profile-uid").textContent = user.getUid();
  element("profile-initial").textContent = Array.from(name)[0].toUpperCase();
  const fields = element("profile-form").elements;
  fields.namedItem("name").value = name;
  fields.namedItem("statusMessage").value = user.getStatusMessage() ?? "";
}

// memberUid says who is logged in to the app, with or without chat.
let memberUid = "";

// enter shows the profile of somebody who is logged in to the app, or what there is while the chat cannot be reached.
async function enter(uid, token) {
  memberUid = uid;
  try {
    showProfile(await openChat(uid, token));
  } catch (error) {
    if (error.code === tokenRevoked) return; // chatHasEnded shows what there is to show
    show(error.status === 401 ? "log-in" : "no-chat");
    complain(error);
  }
}

// onSubmit runs work with what is in a form, once at a time, and shows why it failed.
function onSubmit(id, work) {
  const form = element(id);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    quiet();
    const button = event.submitter ?? form.querySelector(".primary");
    button.disabled = true;
    try {
      await work(Object.fromEntries(new FormData(form)), form);
    } catch (error) {
      complain(error, form);
    } finally {
      button.disabled = false;
    }
  });
}

onSubmit("register-form", async (registration, form) => {
  const member = await post("/api/register", registration);
  form.reset();
  show("log-in");
  tell(`Welcome, ${member.name}! Your account is ready: log in with your password.`);
  const fields = element("log-in-form").elements;
  fields.namedItem("email").value = registration.email;
  fields.namedItem("password").focus();
});

onSubmit("log-in-form", async (given, form) => {
  const member = await post("/api/login", given);
  form.reset();
  await enter(member.uid, member.chatToken);
});

onSubmit("no-chat-form", () => enter(memberUid));

onSubmit("profile-form", async (profile) => {
  showProfile(await saveProfile(memberUid, profile));
  tell("Saved.");
});

for (const button of document.querySelectorAll("[data-log-out]")) {
  button.addEventListener("click", async () => {
    try {
      await post("/api/logout");
      await closeChat();
      show("log-in");
    } catch (error) {
      complain(error);
    }
  });
}

element("show-register").addEventListener("click", () => show("register"));
element("show-log-in").addEventListener("click", () => show("log-in"));

await initChat();
if (signedInAs) {
  await enter(signedInAs);
} else {
  await closeChat();
  show("log-in");
}
