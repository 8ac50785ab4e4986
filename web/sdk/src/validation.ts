import { tokenUnknown, wrong } from "./errors.js";
import type { User, UserPatch } from "./user.js";

// What is refused before any request, with the documented codes (contract sdk-wire.md part E).

const isText = (value: unknown): value is string => typeof value === "string" && value.trim() !== "";

/** What a blank credential is refused with. */
export function checkAuthKey(authKey: unknown): void {
  if (!isText(authKey)) throw wrong("INVALID_AUTH_KEY", "Pass the auth key of your app.");
}

/** Refuses what cannot be the token of a login. The code is the one with which the server refuses a token. */
export function checkToken(token: unknown): asserts token is string {
  if (!isText(token)) throw wrong("MISSING_PARAMETERS", missingCredentials);
  if (/^[\w-]+_[0-9a-f]{40}$/i.test(token)) return;
  const like = /^[0-9a-f]{40}$/i.test(token) ? "an API key" : token.startsWith("eyJ") ? "a JWT" : "";
  throw wrong(
    tokenUnknown,
    `This cannot be an auth token: one is a uid, an underscore and 40 hexadecimal digits.${like && ` It looks like ${like}.`} ` +
      "Your backend gets one from POST /v3/users/{uid}/auth_tokens, as authToken.",
  );
}

/** What a login without credentials is refused with. */
export const missingCredentials =
  "Pass { token }, which your backend mints, or for development { uid, authKey } with the auth key of the app.";

export function checkUid(uid: unknown): asserts uid is string {
  if (!isText(uid) || ["0", "null", "undefined", "false"].includes(uid)) throw wrong("INVALID_UID", "The uid must be a text that is not empty.");
}

function checkIdentity(user: Partial<User>, nameNeeded: boolean): void {
  if (user.uid === undefined || user.uid === null) throw wrong("UID_IS_COMPULSORY", "The user needs a uid.");
  checkUid(user.uid);
  if (user.name === undefined || user.name === null) {
    if (nameNeeded) throw wrong("USER_NAME_IS_COMPULSORY", "The user needs a name.");
  } else if (!isText(user.name)) {
    throw wrong("INVALID_USER_NAME", "The name must be a text that is not empty.");
  }
}

export function checkNewUser(user: Partial<User>): void {
  checkIdentity(user, true);
  const { avatar, metadata, link, statusMessage, role, tags } = user;
  const empty = { AVATAR: avatar, METADATA: metadata, LINK: link, STATUS_MESSAGE: statusMessage, ROLE: role };
  for (const [field, value] of Object.entries(empty)) {
    if ((value as unknown) === "") throw wrong(`INVALID_USER_${field}`, `The ${field.toLowerCase().replace("_", " ")} may not be empty. Leave it out instead.`);
  }
  if (tags !== undefined && (!Array.isArray(tags) || tags.length === 0)) throw wrong("INVALID_USER_TAGS", "The tags must be a list that is not empty.");
}

export function checkChangedUser(user: Partial<User> & UserPatch): void {
  checkIdentity(user, false);
}

/** Refuses how a device cannot present itself: the server would close its connection for good. */
export function checkStatus(status: unknown): void {
  const known = ["online", "away", "busy", "invisible"];
  if (!known.includes(status as string)) throw wrong("INVALID_STATUS_VALUE", `The status must be one of: ${known.join(", ")}.`);
}

export function checkUids(uids: unknown): asserts uids is string[] {
  if (!Array.isArray(uids)) throw wrong("INVALID_USER_LIST", "Pass a list of uids.");
  if (uids.length === 0) throw wrong("EMPTY_USERS_LIST", "The list of uids is empty.");
}
