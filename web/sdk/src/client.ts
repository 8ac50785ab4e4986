import {
  Connection, presenceOf, type Closed, type ConnectionState, type OwnStatus, type PresenceFields, type PresenceStatus, type Subscription,
} from "./connection.js";
import { RollcallError, tokenUnknown, wrong } from "./errors.js";
import { Emitter, apart } from "./events.js";
import { Friends, friendChange, type FriendChange } from "./friends.js";
import { Transport, randomId, unknown, type Answer, type Call, type CallOptions } from "./http.js";
import { storeOf, type StorageMode, type Store } from "./storage.js";
import { patchOf, stored, type StoredUser, type User, type UserFields, type UserPatch } from "./user.js";
import { Blocks, Users, type Caller } from "./users.js";
import { checkChangedUser, checkStatus, checkToken, checkUids, missingCredentials } from "./validation.js";
import type { SocketConstructor } from "./websocket.js";

/** How a client is set up. */
export interface ClientOptions {
  appId: string;
  /** Where Rollcall is, such as `https://chat.example.com`, or `http://127.0.0.1:8080` for local use. */
  host: string;
  /** Where a login is kept; `local` by default, so that it survives a reload and is shared by the tabs of a browser. */
  storage?: StorageMode | Store;
  /** Whom to hear of; nobody by default. */
  subscribe?: Subscription;
  /** Whether to connect after a login by itself; true by default. */
  autoConnect?: boolean;
  /** Replaces the platform's. */
  fetch?: typeof fetch;
  webSocket?: SocketConstructor;
}

/** Who logs in: with a token that a backend minted, or with the auth key of the app, for development. */
export type Credentials = { token: string } | { uid: string; authKey: string };

/** Why a session has ended: by `logout()`, because another tab logged out, or because the server has ended it. */
export type LogoutReason = "logout" | "elsewhere" | "revoked";

/** What a client tells its listeners. */
export interface ClientEvents {
  loggedIn: StoredUser;
  loginFailed: RollcallError;
  /** The session has ended; told once. */
  loggedOut: { reason: LogoutReason; error?: RollcallError };
  /** The profile of the user who is logged in has changed: here, on another device, or by a backend. */
  profile: StoredUser;
  /** The connection has changed; closed says what ended it. */
  connection: { state: ConnectionState; closed?: Closed };
  /** Something has happened between the user who is logged in and another, while there was a connection. */
  friend: FriendChange;
  /**
   * Somebody presents itself so. initial says that it was so before this session began. A listener hears what comes
   * from then on; `client.presence.follow` begins with those who are online already.
   */
  presence: { status: PresenceStatus; initial: boolean };
  /** Everybody in the subscription who is online has been told: what was known before is replaced. */
  presenceComplete: undefined;
}

/** What is kept of a login. */
interface Session {
  token: string;
  user: UserFields;
  jwt: string;
  /** When the JWT was issued, in Unix milliseconds. */
  jwtAt: number;
}

/** The settings that the server has for clients. There may be more. */
export interface ClientSettings {
  /** The host, with port, for calls with an API key. */
  ADMIN_API_HOST: string;
  /** The host, with port, for calls with an auth token. */
  CLIENT_API_HOST: string;
  /** The path prefix of calls. */
  CHAT_API_VERSION: string;
  /** The version of the socket's HTTP calls. */
  WS_API_VERSION: string;
  /** The host of the socket. */
  CHAT_HOST: string;
  /** What to put behind the colon of the socket's address. */
  CHAT_WSS_PORT: string;
  /** The generation of the app. */
  APP_VERSION: number;
  /** The region label of the app. */
  REGION: string;
  /** Extensions that are turned on. */
  extensions: unknown[];
  /** Features that are turned on. */
  parameters: Record<string, unknown>;
  /** Changes when the settings do. */
  settingsHash: string;
  [name: string]: unknown;
}

interface MeFields extends UserFields {
  authToken: string;
  jwt: string;
  wsChannel?: unknown;
  settings?: Record<string, unknown>;
}

// The server takes a JWT for 15 minutes.
const jwtAge = 10 * 60_000;

/** A chat client of one app: who is logged in on this device, who there is, and who is online. */
export class RollcallClient extends Emitter<ClientEvents> {
  readonly appId: string;
  /** The people of the app. */
  readonly users: Users;
  /** Whom the user has blocked. */
  readonly blocks: Blocks;
  /** The friends of the user, and friend requests. */
  readonly friends: Friends;
  /** Who is online. */
  readonly presence: Presence;
  readonly #options: ClientOptions;
  readonly #transport: Transport;
  readonly #store: Store;
  readonly #key: string;
  readonly #deviceId: string;
  #session: Session | undefined;
  #connection: Connection | undefined;
  #subscription: Subscription;
  #own: OwnStatus | undefined;
  #loggingIn = false;
  /** The reading of the user's own profile that is under way. */
  #reading: AbortController | undefined;
  /** How many updates of it are. */
  #updating = 0;
  #heardMeanwhile: UserFields | undefined;
  #closed = false;

  /** Makes a client, which takes over the login that is kept, if there is one. It makes no request but to connect. */
  constructor(options: ClientOptions) {
    super();
    if (!options.appId?.trim() || !/^https?:\/\//.test(options.host ?? "")) {
      throw wrong("MISSING_PARAMETERS", "Pass the appId, and as host where Rollcall is, such as https://chat.example.com.");
    }
    this.#options = options;
    this.appId = options.appId;
    this.#store = storeOf(options.storage ?? "local");
    this.#key = `rollcall:${options.appId}`;
    this.#deviceId = this.#findDeviceId();
    this.#subscription = options.subscribe ?? "none";
    this.#transport = new Transport(options.host, { appId: options.appId, resource: this.#deviceId, sdk: "rollcall@0.1.0" }, options.fetch);
    const call = <T>(request: Call) => this.#call<T>(request);
    this.users = new Users(call, (user) => this.#profileChanged(user));
    this.blocks = new Blocks(call);
    this.friends = new Friends(call);
    this.presence = new Presence(this, call, {
      connection: () => (this.#connection?.wanted ? this.#connection : undefined),
      subscribe: (subscription) => {
        this.#subscription = subscription;
        this.#connection?.subscribe(subscription);
      },
      setStatus: (own) => {
        this.#own = own;
        this.#connection?.setStatus(own);
      },
    });
    globalThis.addEventListener?.("storage", this.#storageChanged);
    this.#session = this.#kept();
    queueMicrotask(() => this.#connectIfWanted()); // listeners can be added before
  }

  /** The user who is logged in, if there is one. */
  get me(): StoredUser | undefined {
    return this.#session && stored({ ...this.#session.user, status: "online" });
  }

  /** Whether there is a connection over which presence is told. */
  get connectionState(): ConnectionState {
    return this.#connection?.state ?? "disconnected";
  }

  /**
   * Logs a user in. Rejects with `LOGIN_IN_PROGRESS` while another login is under way, with what the server says, and
   * without asking it with `AUTH_ERR_AUTH_TOKEN_NOT_FOUND` for a text that can be no token.
   */
  async login(credentials: Credentials, options: CallOptions = {}): Promise<StoredUser> {
    if (this.#loggingIn) throw this.#failed(new RollcallError({ code: "-1", name: "LOGIN_IN_PROGRESS", message: "Another login is under way." }));
    this.#loggingIn = true;
    try {
      if (typeof credentials !== "object" || !credentials) throw wrong("MISSING_PARAMETERS", missingCredentials);
      if ("uid" in credentials && this.#session?.user.uid === credentials.uid) return this.me!;
      const token = "token" in credentials ? credentials.token : await this.#mint(credentials, options);
      checkToken(token);
      const { data } = await this.#transport.call<MeFields>({
        method: "PUT", path: "/me", body: { platform: "WEB", deviceId: this.#deviceId }, authToken: token, signal: options.signal,
      });
      if (this.#closed) throw wrong("-1", "The client was closed during the login.", "CLOSED");
      const other = this.#session?.user.uid !== data.uid;
      if (other) this.#forget();
      this.#keep(data, token);
      if (!other) this.#connection?.renew();
      const user = this.me!;
      this.emit("loggedIn", user);
      this.#connectIfWanted();
      return user;
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#loggingIn = false;
    }
  }

  #failed(error: unknown): unknown {
    if (error instanceof RollcallError) this.emit("loginFailed", error);
    return error;
  }

  async #mint({ uid, authKey }: { uid: string; authKey: string }, { signal }: CallOptions): Promise<string> {
    if (!uid?.trim() || !authKey?.trim()) throw wrong("MISSING_PARAMETERS", missingCredentials);
    const path = `/users/${encodeURIComponent(uid)}/auth_tokens`;
    const body = { platform: "WEB", deviceId: this.#deviceId };
    return (await this.#transport.call<{ authToken: string }>({ method: "POST", path, body, authKey, signal })).data.authToken;
  }

  /** Logs the user out, here and in other tabs, and ends the token. The session has ended even when the server cannot be told: then it rejects. */
  async logout(options: CallOptions = {}): Promise<{ success: boolean; message: string }> {
    const token = this.#session?.token;
    if (!token) throw notLoggedIn();
    this.#end("logout");
    try {
      return (await this.#transport.call<{ success: boolean; message: string }>({ method: "DELETE", path: "/me", authToken: token, signal: options.signal })).data;
    } catch (error) {
      if (!(error instanceof RollcallError) || error.code !== tokenUnknown) throw error;
      return { success: true, message: "The auth token had ended already." };
    }
  }

  /** Changes the profile of the user who is logged in. The role cannot be changed so, and is not sent. */
  async updateMe(user: Partial<User> | UserPatch, options: CallOptions = {}): Promise<StoredUser> {
    const session = this.#session;
    if (!session) throw notLoggedIn();
    checkChangedUser({ ...user, uid: session.user.uid });
    const { role: _, ...body } = patchOf(user);
    this.#updating++;
    try {
      const { data } = await this.#call<MeFields>({ method: "PUT", path: "/me", body, signal: options.signal });
      const me = stored({ ...profileOf(data), status: "online" });
      if (this.#session?.token !== session.token) return me; // it has ended meanwhile
      this.#keep(data, session.token);
      this.emit("profile", me);
      return me;
    } finally {
      if (--this.#updating === 0) this.#settle();
    }
  }

  /** Reads the settings that the server has for clients. */
  async settings(options: CallOptions = {}): Promise<ClientSettings> {
    return (await this.#call<ClientSettings>({ method: "GET", path: "/settings", signal: options.signal })).data;
  }

  /** Returns a short-lived JWT that tells others who the user is. passthrough is put into it. */
  async jwt(passthrough?: unknown, options: CallOptions = {}): Promise<string> {
    return (await this.#call<{ jwt: string }>({ method: "POST", path: "/me/jwt", body: { passthrough }, signal: options.signal })).data.jwt;
  }

  /** Connects, and stays connected until `disconnect()` or the end of the session. */
  connect(): void {
    if (!this.#session || this.#closed) throw notLoggedIn();
    if (this.#connection) return this.#connection.open();
    const connection = new Connection({
      url: `${this.#transport.base.replace(/^http/, "ws")}/ws:443`,
      appId: this.appId, deviceId: this.#deviceId, uid: this.#session.user.uid, subscription: this.#subscription,
      jwt: (fresh) => this.#socketJwt(fresh), webSocket: this.#options.webSocket,
    });
    this.#connection = connection;
    if (this.#own) connection.setStatus(this.#own);
    connection.on("state", (detail) => this.emit("connection", detail));
    connection.on("welcome", ({ updatedAt = 0 }) => {
      // It may have been changed while there was no connection.
      if (updatedAt !== (this.#session?.user.updatedAt ?? 0)) void this.#readMe();
    });
    connection.on("change", (change) => {
      const friend = friendChange(change, connection.uid);
      if (friend) this.emit("friend", friend);
      if (change.kind === "user.updated" && change.user) this.#heard(change.user);
    });
    connection.on("presence", (detail) => this.emit("presence", detail));
    connection.on("complete", () => this.emit("presenceComplete", undefined));
    connection.open();
  }

  /** Goes offline, and stays logged in. What happens until the next `connect()` is told then. */
  disconnect(): void {
    this.#connection?.close();
  }

  // Reads how the user is who is logged in, which may have changed.
  async #readMe(): Promise<void> {
    const session = this.#session;
    if (!session) return;
    this.#reading?.abort();
    const reading = (this.#reading = new AbortController());
    try {
      const { data } = await this.#call<MeFields>({ method: "GET", path: "/me", signal: reading.signal });
      if (this.#reading === reading && this.#session?.token === session.token) this.#take(data, session.token);
    } catch {
      // It is read again with the next connection. A token that is dead has ended the session.
    }
    if (this.#reading === reading) this.#reading = undefined;
  }

  // Keeps what /me has said, and tells what of it is news.
  #take(me: MeFields, token: string): void {
    const before = this.#session!.user;
    this.#keep(me, token);
    if (profileText(before) !== profileText(profileOf(me))) this.emit("profile", this.me!);
  }

  // Takes over what the server has told of the user. Whether that is older or newer than what an update is going to
  // answer cannot be said: then it is looked at when that is known.
  #heard(user: UserFields): void {
    const { lastActiveAt } = this.#session?.user ?? {};
    if (this.#reading) void this.#readMe();
    else if (this.#updating > 0) this.#heardMeanwhile = user;
    else this.#profileChanged({ ...user, ...(lastActiveAt && { lastActiveAt }) });
  }

  // What was heard during an update is most often that update.
  #settle(): void {
    const [heard, known] = [this.#heardMeanwhile, this.#session?.user];
    this.#heardMeanwhile = undefined;
    if (heard && known?.uid === heard.uid && profileText(heard) !== profileText(known)) void this.#readMe();
  }

  // What there was of a user is not the next one's.
  #forget(): void {
    this.#reading?.abort();
    this.#reading = undefined;
    const connection = this.#connection;
    this.#connection = this.#own = undefined;
    connection?.close();
  }

  #connectIfWanted(): void {
    if (this.#session && !this.#closed && this.#options.autoConnect !== false) this.connect();
  }

  /** Ends what the client does in the background and every iteration over its events, and forgets its listeners. The login is kept. */
  close(): void {
    this.#closed = true;
    this.#reading?.abort();
    this.disconnect();
    this.retire();
    globalThis.removeEventListener?.("storage", this.#storageChanged);
  }

  async #call<T>(call: Call): Promise<Answer<T>> {
    if (call.authKey !== undefined) return this.#transport.call<T>(call);
    const token = this.#session?.token;
    if (!token) throw notLoggedIn();
    try {
      return await this.#transport.call<T>({ ...call, authToken: token });
    } catch (error) {
      if (error instanceof RollcallError && error.code === tokenUnknown && this.#session?.token === token) this.#end("revoked", error);
      throw error;
    }
  }

  // A JWT for the socket. Whoever is not let in learns why from /me, which ends the session when the token is dead.
  async #socketJwt(fresh: boolean): Promise<string> {
    const session = this.#session;
    if (!session) throw notLoggedIn();
    if (!fresh && Date.now() - session.jwtAt < jwtAge) return session.jwt;
    try {
      const { data } = await this.#call<MeFields>({ method: "GET", path: "/me" });
      if (this.#session?.token !== session.token) throw notLoggedIn();
      this.#take(data, session.token);
      return data.jwt;
    } catch (error) {
      // The server's own refusal is for good; anything else may be something on the way to it.
      const refused = error instanceof RollcallError && error.code !== unknown && [401, 403, 404].includes(error.status ?? 0);
      if (refused && this.#session?.token === session.token) this.#end("revoked", error);
      throw error;
    }
  }

  #end(reason: LogoutReason, error?: RollcallError): void {
    const own = this.#kept()?.token === this.#session?.token; // another tab may have a newer login
    this.#session = undefined;
    if (reason !== "elsewhere" && own) this.#store.removeItem(this.#key);
    this.#forget();
    this.emit("loggedOut", error ? { reason, error } : { reason });
  }

  #keep(me: MeFields, token: string): void {
    this.#session = { token, user: profileOf(me), jwt: me.jwt, jwtAt: Date.now() };
    this.#write();
  }

  #write(): void {
    try {
      this.#store.setItem(this.#key, JSON.stringify(this.#session));
    } catch {
      // A full store costs the login the next reload, and nothing now.
    }
  }

  #profileChanged(user: UserFields): void {
    const before = this.#session?.user;
    if (!this.#session || before?.uid !== user.uid || profileText(before) === profileText(user)) return;
    this.#session = { ...this.#session, user };
    this.#write();
    this.emit("profile", this.me!);
  }

  #kept(): Session | undefined {
    try {
      const kept = JSON.parse(this.#store.getItem(this.#key) ?? "null");
      return kept?.token && kept.user?.uid ? kept : undefined;
    } catch {
      return undefined;
    }
  }

  // Another tab has logged in or out, or has a newer profile.
  readonly #storageChanged = (event: { key: string | null; storageArea?: unknown }): void => {
    if (event.storageArea !== this.#store || (event.key !== this.#key && event.key !== null)) return;
    const before = this.#session;
    const kept = this.#kept();
    if (before && kept?.user.uid === before.user.uid) {
      this.#session = kept;
      if (profileText(kept.user) !== profileText(before.user)) this.emit("profile", this.me!);
      return;
    }
    if (before) this.#end("elsewhere");
    if (!kept) return;
    this.#session = kept;
    this.emit("loggedIn", this.me!);
    this.#connectIfWanted();
  };

  // Each tab is a device of its own, which stays the same when its page is loaded again.
  #findDeviceId(): string {
    const perTab = storeOf("session");
    const key = `${this.#key}:device`;
    const found = perTab.getItem(key) ?? `web-${randomId()}`;
    perTab.setItem(key, found);
    return found;
  }
}

// profileOf is what of /me is the user's.
function profileOf({ authToken: _, jwt: __, wsChannel: ___, settings: ____, ...user }: MeFields): UserFields {
  return user;
}

// profileText is what of a profile is news when it changes: whether the user is online, and since when, is not.
function profileText({ status: _, lastActiveAt: __, ...profile }: UserFields): string {
  return JSON.stringify(Object.entries(profile).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function notLoggedIn(): RollcallError {
  return wrong("USER_NOT_LOGED_IN", "Nobody is logged in.");
}

/** @internal What of a client's connection its presence needs. */
export interface PresenceSession {
  connection(): Connection | undefined;
  subscribe(to: Subscription): void;
  setStatus(own: OwnStatus): void;
}

/** Who is online, told as it happens: by `follow`, or from the loop over `events()`. */
export class Presence {
  readonly #client: RollcallClient;
  readonly #call: Caller;
  readonly #session: PresenceSession;

  /** @internal */
  constructor(client: RollcallClient, call: Caller, session: PresenceSession) {
    this.#client = client;
    this.#call = call;
    this.#session = session;
  }

  /** Those of the subscription who are online now, by uid. */
  get online(): ReadonlyMap<string, PresenceStatus> {
    return this.#session.connection()?.online ?? new Map();
  }

  /**
   * Tells a listener how others present themselves: those of the subscription who are online, at once, and from then on
   * everybody who changes. So it does not matter when it is called: whoever is not told is offline. Returns what ends it.
   * A logout tells nobody as offline: `loggedOut` says that all of it is over.
   */
  follow(listener: (status: PresenceStatus) => void): () => void {
    const off = this.#client.on("presence", ({ status }) => listener(status));
    for (const status of [...this.online.values()]) apart(() => listener(status));
    return off;
  }

  /** Iterates over what `follow` would tell, from this call on, until the signal aborts or the client is closed. */
  events(options: CallOptions = {}): AsyncIterableIterator<PresenceStatus> {
    const already = [...this.online.values()].map((status) => ({ status, initial: true }));
    const told = this.#client.iterate("presence", options, already);
    return {
      async next() {
        const { done, value } = await told.next();
        return done ? { done, value: undefined } : { done: false, value: value.status };
      },
      async return() {
        await told.return?.();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /**
   * Hears of others than until now. Who was online and is not heard of any more is told as offline, with `initial`.
   * Others are not told.
   */
  subscribe(to: Subscription): void {
    this.#session.subscribe(to);
  }

  /** Says how this device presents itself, now and whenever it connects again. */
  setStatus(own: OwnStatus): void {
    checkStatus(own?.status);
    this.#session.setStatus(own);
  }

  /** Returns how users present themselves, at most 1,000. Those who do not exist for the user who asks are left out. */
  async query(uids: string[], options: CallOptions = {}): Promise<PresenceStatus[]> {
    checkUids(uids);
    const call: Call = { method: "POST", path: "/presence/query", body: { uids }, signal: options.signal };
    const { data } = await this.#call<{ users: PresenceFields[] }>(call);
    return data.users.map(presenceOf);
  }

  /** Returns how many users are online. */
  async count(options: CallOptions = {}): Promise<number> {
    return (await this.#call<{ onlineUsersCount: number }>({ method: "GET", path: "/presence/online-count", signal: options.signal })).data.onlineUsersCount;
  }
}
