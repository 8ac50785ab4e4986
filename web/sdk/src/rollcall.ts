// The documented calls in their familiar shape: moving from the official SDK is a rename. There is one session for the
// whole page, as there. What lies under it, and can be used instead, is RollcallClient.

import { RollcallClient, type ClientSettings } from "./client.js";
import type { ConnectionState, Subscription } from "./connection.js";
import { RollcallError, wrong } from "./errors.js";
import { apart } from "./events.js";
import type { StorageMode } from "./storage.js";
import { User, type UserFields, type UserPatch } from "./user.js";
import { type BlockDirection, type ItemResult, type UserFilter, type UserPage } from "./users.js";

export { User } from "./user.js";
export { RollcallError as CometChatException, RollcallError as Exception } from "./errors.js";

/** What a user can be. */
export const USER_STATUS = { ONLINE: "online", OFFLINE: "offline" } as const;
/** What the connection can be. */
export const CONNECTION_STATUS = { CONNECTED: "connected", CONNECTING: "connecting", DISCONNECTED: "disconnected" } as const;

/** What `init` is given. Make one with AppSettingsBuilder. */
export class AppSettings {
  static readonly SUBSCRIPTION_TYPE_NONE = "NONE";
  static readonly SUBSCRIPTION_TYPE_ALL_USERS = "ALL_USERS";
  static readonly SUBSCRIPTION_TYPE_ROLES = "ROLES";
  static readonly SUBSCRIPTION_TYPE_FRIENDS = "FRIENDS";
  static readonly STORAGE_MODE_LOCAL = "local";
  static readonly STORAGE_MODE_SESSION = "session";

  subscriptionType = "NONE";
  roles: string[] = [];
  region = "";
  autoJoinGroup = true;
  establishSocketConnection = true;
  host = "";
  adminHost = "";
  clientHost = "";
  storageMode: StorageMode = "local";

  /** Returns whom to hear of. */
  getSubscriptionType(): string {
    return this.subscriptionType;
  }
  /** Returns the roles that were given. */
  getRoles(): string[] {
    return this.roles;
  }
  /** Returns what setRegion was given. */
  getRegion(): string {
    return this.region;
  }
  /** Returns what enableAutoJoinForGroups was given. */
  getIsAutoJoinEnabled(): boolean {
    return this.autoJoinGroup;
  }
  /** Returns whether a login connects by itself. */
  shouldAutoEstablishSocketConnection(): boolean {
    return this.establishSocketConnection;
  }
  /** Returns what overrideAdminHost was given. */
  getAdminHost(): string {
    return this.adminHost;
  }
  /** Returns what overrideClientHost was given. */
  getClientHost(): string {
    return this.clientHost;
  }
  /** Returns where the login is kept. */
  getStorageMode(): StorageMode {
    return this.storageMode;
  }
}

/** Makes AppSettings. The last subscribePresence… wins. */
export class AppSettingsBuilder {
  readonly #settings = new AppSettings();

  #set(fields: Partial<AppSettings>): this {
    Object.assign(this.#settings, fields);
    return this;
  }
  /** Says where Rollcall is, such as `https://chat.example.com`, or `http://127.0.0.1:8080` for local use. */
  setHost(host: string): this {
    return this.#set({ host });
  }
  /** Hears of everybody. */
  subscribePresenceForAllUsers(): this {
    return this.#set({ subscriptionType: AppSettings.SUBSCRIPTION_TYPE_ALL_USERS });
  }
  /** Hears of users with any of these roles. */
  subscribePresenceForRoles(roles: string[]): this {
    return this.#set({ subscriptionType: AppSettings.SUBSCRIPTION_TYPE_ROLES, roles });
  }
  /** Hears of friends. */
  subscribePresenceForFriends(): this {
    return this.#set({ subscriptionType: AppSettings.SUBSCRIPTION_TYPE_FRIENDS });
  }
  /** Is taken and not used: there are no regions. */
  setRegion(region = "eu"): this {
    return this.#set({ region: region.toLowerCase() });
  }
  /** Is taken and not used: there are no groups. */
  enableAutoJoinForGroups(autoJoinGroup = true): this {
    return this.#set({ autoJoinGroup });
  }
  /** Says whether a login connects by itself. */
  autoEstablishSocketConnection(establishSocketConnection = true): this {
    return this.#set({ establishSocketConnection });
  }
  /** Is taken and not used: there is one host. */
  overrideAdminHost(adminHost: string): this {
    return this.#set({ adminHost });
  }
  /** Says where Rollcall is in the form of the official SDK, `host:port`, for https. */
  overrideClientHost(clientHost: string): this {
    return this.#set({ clientHost });
  }
  /** Says where the login is kept. */
  setStorageMode(storageMode: StorageMode): this {
    return this.#set({ storageMode });
  }
  /** Returns what was built. */
  build(): AppSettings {
    return Object.assign(new AppSettings(), this.#settings);
  }
}

/** What is told of others. */
export class UserListener {
  /** Somebody has come online, or is online and has another name. */
  onUserOnline?: (user: User) => void;
  /** Somebody has gone offline. */
  onUserOffline?: (user: User) => void;
  constructor(handlers: { onUserOnline?: (user: User) => void; onUserOffline?: (user: User) => void }) {
    Object.assign(this, handlers);
  }
}

/** What is told of logins. */
export class LoginListener {
  /** Somebody has logged in, here or in another tab. */
  loginSuccess?: (user: User) => void;
  /** A login has failed. */
  loginFailure?: (error: RollcallError) => void;
  /** The session has ended: by logout, in another tab, or by the server. */
  logoutSuccess?: () => void;
  /** The server could not be told of a logout. */
  logoutFailure?: (error: RollcallError) => void;
  constructor(handlers: {
    loginSuccess?: (user: User) => void;
    loginFailure?: (error: RollcallError) => void;
    logoutSuccess?: () => void;
    logoutFailure?: (error: RollcallError) => void;
  }) {
    Object.assign(this, handlers);
  }
}

/** What is told of the connection. */
export class ConnectionListener {
  /** There is a connection. */
  onConnected?: () => void;
  /** There will be one. */
  inConnecting?: () => void;
  /** There is none. */
  onDisconnected?: () => void;
  constructor(handlers: { onConnected?: () => void; inConnecting?: () => void; onDisconnected?: () => void }) {
    Object.assign(this, handlers);
  }
}

const userListeners = new Map<string, UserListener>();
const loginListeners = new Map<string, LoginListener>();
const connectionListeners = new Map<string, ConnectionListener>();

/** Adds a listener, in the place of any other with this id. */
export function addUserListener(id: string, listener: UserListener): void {
  userListeners.set(id, listener);
}
/** Removes a listener, if there is one with this id. */
export function removeUserListener(id: string): void {
  userListeners.delete(id);
}
/** Adds a listener, in the place of any other with this id. */
export function addLoginListener(id: string, listener: LoginListener): void {
  loginListeners.set(id, listener);
}
/** Removes a listener, if there is one with this id. */
export function removeLoginListener(id: string): void {
  loginListeners.delete(id);
}
/** Adds a listener, in the place of any other with this id. */
export function addConnectionListener(id: string, listener: ConnectionListener): void {
  connectionListeners.set(id, listener);
}
/** Removes a listener, if there is one with this id. */
export function removeConnectionListener(id: string): void {
  connectionListeners.delete(id);
}

// Tells every listener, also when one of them throws.
function tell<L>(listeners: Map<string, L>, what: (listener: L) => void): void {
  for (const listener of [...listeners.values()]) apart(() => what(listener));
}

let current: RollcallClient | undefined;

function session(): RollcallClient {
  if (!current) throw wrong("-1", "Call init first.", "ROLLCALL_INITIALIZATION_NOT_DONE");
  return current;
}

/**
 * Prepares everything, takes over the login that is kept, and connects if there is one. It must come before all other
 * calls; called again, it begins anew.
 */
export async function init(appId: string, appSettings: AppSettings = new AppSettings()): Promise<boolean> {
  const { host, clientHost, subscriptionType, roles } = appSettings;
  const where = host || (clientHost && (clientHost.includes("://") ? clientHost : `https://${clientHost}`));
  const subscribe: Subscription = { ALL_USERS: "all" as const, FRIENDS: "friends" as const, ROLES: { roles } }[subscriptionType] ?? "none";
  current?.close();
  const client = new RollcallClient({
    appId, host: where.replace(/\/v3(\.0)?\/?$/, ""), subscribe, storage: appSettings.storageMode, autoConnect: appSettings.establishSocketConnection,
  });
  current = client;
  client.on("loggedIn", (user) => tell(loginListeners, (listener) => listener.loginSuccess?.(user)));
  client.on("loginFailed", (error) => tell(loginListeners, (listener) => listener.loginFailure?.(error)));
  client.on("loggedOut", () => tell(loginListeners, (listener) => listener.logoutSuccess?.()));
  client.on("connection", ({ state }) => {
    const handler = { connected: "onConnected", connecting: "inConnecting", disconnected: "onDisconnected" } as const;
    tell(connectionListeners, (listener) => listener[handler[state]]?.());
  });
  hearPresence(client);
  return true;
}

// Who is online has no shades here: away and busy are online, and changes between them are not told.
function hearPresence(client: RollcallClient): void {
  const seen = new Map<string, string>();
  client.on("presence", ({ status, initial }) => {
    const { uid, lastActiveAt } = status;
    const profile = JSON.stringify(status.user ?? null);
    const offline = status.status === "offline";
    const before = seen.get(uid);
    if (offline) seen.delete(uid);
    else seen.set(uid, profile);
    if (initial || (offline ? before === undefined && !status.user : before === profile)) return;
    const known: UserFields = status.user ?? { uid, name: uid };
    const { metadata, ...fields } = known;
    const user = new User({ ...fields, ...(metadata && { metadata }), ...(lastActiveAt && { lastActiveAt }), status: offline ? "offline" : "online" });
    tell(userListeners, (listener) => (offline ? listener.onUserOffline : listener.onUserOnline)?.(user));
  });
  client.on("loggedOut", () => seen.clear());
}

/** Whether init has been called. */
export function isInitialized(): boolean {
  return current !== undefined;
}

/** Logs in with a uid and the auth key, or with a token that a backend minted. */
export async function login(...given: [uid: string, authKey: string] | [token: string] | [{ username: string; apiKey: string } | { authToken: string }]): Promise<User> {
  const [first, second] = given;
  const client = session();
  const [uid, authKey] = typeof first !== "object" ? [first, second] : "username" in first ? [first.username, first.apiKey] : [];
  if (typeof first === "object" && "authToken" in first) return client.login({ token: first.authToken });
  if (given.length === 1 && typeof first === "string") return client.login({ token: first });
  const already = client.me !== undefined && client.me.uid === uid;
  const user = await client.login({ uid: uid as string, authKey: authKey as string });
  if (already) tell(loginListeners, (listener) => listener.loginSuccess?.(user));
  return user;
}

/** Logs out. The session has ended even when this rejects. */
export async function logout(): Promise<{ success: boolean; message: string }> {
  try {
    return await session().logout();
  } catch (error) {
    if (error instanceof RollcallError) tell(loginListeners, (listener) => listener.logoutFailure?.(error));
    throw error;
  }
}

/** Returns the user who is logged in, or null. */
export async function getLoggedInUser(): Promise<User | null> {
  return session().me ?? null;
}
/** Returns the user who is logged in, or null. */
export const getLoggedinUser = getLoggedInUser;

/** Creates a user. */
export async function createUser(user: User | (UserPatch & { uid: string; name: string }), authKey: string): Promise<User> {
  return session().users.create(user, authKey);
}

/** Changes what is set of a user. */
export async function updateUser(user: User | (UserPatch & { uid: string }), authKey: string): Promise<User> {
  return session().users.update(user, authKey);
}

/** Changes the profile of the user who is logged in. The role is left as it is. */
export async function updateCurrentUserDetails(user: User | UserPatch): Promise<User> {
  return session().updateMe(user);
}

/** Returns a user. */
export async function getUser(uid: string): Promise<User> {
  return session().users.get(uid);
}

/** Blocks users. The answer says what became of each. */
export async function blockUsers(uids: string[]): Promise<Record<string, ItemResult>> {
  return session().blocks.add(uids);
}

/** Ends blocks. The answer says what became of each. */
export async function unblockUsers(uids: string[]): Promise<Record<string, ItemResult>> {
  return session().blocks.remove(uids);
}

/** Returns how many users are online. */
export async function getOnlineUserCount(): Promise<number> {
  return session().presence.count();
}

/** Reads the settings that the server has for clients. */
export async function getAppSettings(): Promise<ClientSettings> {
  return session().settings();
}

/** Returns a short-lived JWT with passthrough in it. */
export async function getJWT(passthrough?: unknown): Promise<{ jwt: string }> {
  return { jwt: await session().jwt(passthrough) };
}

/** Returns `connected`, `connecting` or `disconnected`. */
export function getConnectionStatus(): ConnectionState {
  return current?.connectionState ?? "disconnected";
}

/** Connects, when init was told not to. */
export function connect(): void {
  session().connect();
}

/** Goes offline, and stays logged in. */
export function disconnect(): void {
  session().disconnect();
}

type Fetch = (client: RollcallClient, page: number) => Promise<UserPage>;

/** Fetches page after page, in both directions. */
abstract class PagedRequest {
  #start: number;
  #page = 0;
  #busy = false;
  /** @internal */
  protected abstract check(): Fetch;

  constructor(start: number) {
    this.#start = start;
  }

  /** Returns the number of the page that was fetched last, from 1; 0 before the first. */
  getPage(): number {
    return this.#page;
  }

  /** Returns the next page; an empty list behind the last one, and while another call is under way. */
  async fetchNext(): Promise<User[]> {
    return this.#fetch((this.#page || this.#start) + 1);
  }

  /** Returns the page before the one fetched last; an empty list before the first. */
  async fetchPrevious(): Promise<User[]> {
    return this.#page <= 1 ? [] : this.#fetch(this.#page - 1);
  }

  async #fetch(page: number): Promise<User[]> {
    const client = session();
    const fetch = this.check();
    if (this.#busy) return [];
    this.#busy = true;
    try {
      const { users } = await fetch(client, page);
      if (users.length > 0) this.#page = page;
      return users;
    } finally {
      this.#busy = false;
    }
  }
}

function checkLimit(limit: number | undefined): number {
  if (limit === undefined) throw wrong("SET_LIMIT_IS_COMPULSORY", "Call setLimit before build.");
  if (limit > 100) throw wrong("ERROR_SET_LIMIT_EXCEEDED", "The limit may be 100 at most.");
  if (Number.isNaN(Number(limit)) || limit < 0) throw wrong("INVALID_SET_LIMIT", "The limit must be a number from 1 to 100.");
  return limit;
}

/** What a UsersRequest is made of. */
export interface UsersQuery extends Omit<UserFilter, "status" | "sortBy" | "sortOrder" | "searchIn"> {
  role?: string;
  status?: string;
  sortBy?: string;
  sortOrder?: string;
  searchIn?: string[];
  page?: number;
}

/** A list of users in pages. Make one with UsersRequestBuilder. */
export class UsersRequest extends PagedRequest {
  static readonly USER_STATUS = USER_STATUS;
  readonly #query: UsersQuery;

  constructor(query: UsersQuery) {
    super(query.page ?? 0);
    this.#query = query;
  }

  /** Returns what setLimit was given. */
  getLimit(): number | undefined {
    return this.#query.limit;
  }
  /** Returns what setSearchKeyword was given. */
  getSearchKeyword(): string | undefined {
    return this.#query.search;
  }
  /** Returns what hideBlockedUsers was given. */
  isHideBlockedUsers(): boolean | undefined {
    return this.#query.hideBlockedUsers;
  }
  /** Returns what setStatus was given, in the server's words. */
  getStatus(): string | undefined {
    return this.#query.status === "online" ? "available" : this.#query.status;
  }
  /** Returns what setRole was given. */
  getRole(): string | undefined {
    return this.#query.role;
  }
  /** Returns what friendsOnly was given. */
  isFriendsOnly(): boolean | undefined {
    return this.#query.friendsOnly;
  }
  /** Returns the roles that were given. */
  getRoles(): string[] | undefined {
    const { role, roles } = this.#query;
    return role && Array.isArray(roles) ? [...roles, role] : roles;
  }
  /** Returns what setTags was given. */
  getTags(): string[] | undefined {
    return this.#query.tags;
  }
  /** Returns what withTags was given. */
  isWithTags(): boolean | undefined {
    return this.#query.withTags;
  }
  /** Returns what setUIDs was given. */
  getUIDs(): string[] | undefined {
    return this.#query.uids;
  }
  /** Returns what searchIn was given. */
  getSearchIn(): string[] | undefined {
    return this.#query.searchIn;
  }
  /** Returns what sortBy was given. */
  getSortBy(): string | undefined {
    return this.#query.sortBy;
  }
  /** Returns what sortByOrder was given. */
  getSortOrder(): string | undefined {
    return this.#query.sortOrder;
  }

  /** @internal */
  protected check(): Fetch {
    const { role, roles, page: _, ...query } = this.#query;
    checkLimit(query.limit);
    const oneOf = (value: unknown, allowed: string[], code: string) => {
      if (value !== undefined && !allowed.includes(String(value).toLowerCase())) throw wrong(code, `It must be one of: ${allowed.join(", ")}.`);
    };
    const list = (value: unknown, code: string) => {
      if (value !== undefined && (!Array.isArray(value) || value.length === 0)) throw wrong(code, "It must be a list that is not empty.");
    };
    const flag = (value: unknown, code: string) => {
      if (value !== undefined && typeof value !== "boolean") throw wrong(code, "It must be true or false.");
    };
    oneOf(query.status, ["online", "offline"], "INVALID_STATUS_VALUE");
    list(roles, "INVALID_ROLES");
    list(query.tags, "INVALID_TAGS");
    list(query.uids, "INVALID_UIDs");
    oneOf(query.sortBy, ["name", "status", "createdat", "updatedat", "lastactiveat"], "INVALID_SORT_BY");
    oneOf(query.sortOrder, ["asc", "desc"], "INVALID_SORT_BY_ORDER");
    list(query.searchIn, "INVALID_SEARCH_IN");
    for (const place of query.searchIn ?? []) oneOf(place, ["uid", "name"], "INVALID_SEARCH_IN");
    flag(query.hideBlockedUsers, "INVALID_HIDE_BLOCKED_USERS");
    flag(query.friendsOnly, "INVALID_FRIENDS_ONLY");
    flag(query.withTags, "INVALID_WITH_TAGS");
    const filter = { ...query, roles: this.getRoles() ?? (role ? [role] : []) } as UserFilter;
    return (client, page) => client.users.list({ ...filter, page });
  }
}

/** Makes a UsersRequest. */
export class UsersRequestBuilder {
  readonly #query: UsersQuery = {};

  #set(fields: UsersQuery): this {
    Object.assign(this.#query, fields);
    return this;
  }
  /** Says how many users a page has, 1 to 100. It must be said. */
  setLimit(limit: number): this {
    return this.#set({ limit });
  }
  /** Finds users by the beginning of the uid or of any word of the name. */
  setSearchKeyword(search: string): this {
    return this.#set({ search });
  }
  /** Says where to search: `uid`, `name`; both by default. */
  searchIn(searchIn: string[]): this {
    return this.#set({ searchIn });
  }
  /** Selects users who are `online` or `offline`. */
  setStatus(status: string): this {
    return this.#set({ status });
  }
  /** Selects users with a role, beside those of setRoles. */
  setRole(role: string): this {
    return this.#set({ role });
  }
  /** Selects users with any of these roles. */
  setRoles(roles: string[]): this {
    return this.#set({ roles });
  }
  /** Selects users with any of these tags. */
  setTags(tags: string[]): this {
    return this.#set({ tags });
  }
  /** Says whether users come with their tags. */
  withTags(withTags: boolean): this {
    return this.#set({ withTags });
  }
  /** Selects friends. */
  friendsOnly(friendsOnly: boolean): this {
    return this.#set({ friendsOnly });
  }
  /** Leaves out those between whom and the user there is a block. */
  hideBlockedUsers(hideBlockedUsers: boolean): this {
    return this.#set({ hideBlockedUsers });
  }
  /** Selects these users, at most 25. */
  setUIDs(uids: string[]): this {
    return this.#set({ uids });
  }
  /** Sorts by `status`, which has those online first, `name`, `createdAt`, `updatedAt` or `lastActiveAt`. */
  sortBy(sortBy: string): this {
    return this.#set({ sortBy });
  }
  /** Says which way to sort: `asc` or `desc`. */
  sortByOrder(sortOrder: string): this {
    return this.#set({ sortOrder });
  }
  /** Begins behind a page: `setPage(2)` makes the first fetchNext return page 3. */
  setPage(page: number): this {
    return this.#set({ page });
  }
  /** Returns what was built. */
  build(): UsersRequest {
    return new UsersRequest({ ...this.#query });
  }
}

/** What a BlockedUsersRequest is made of. */
export interface BlockedQuery {
  limit?: number;
  search?: string;
  direction?: string;
  page?: number;
}

/** A list of blocked users in pages. Make one with BlockedUsersRequestBuilder. */
export class BlockedUsersRequest extends PagedRequest {
  static readonly directions = { BOTH: "both", HAS_BLOCKED_ME: "hasBlockedMe", BLOCKED_BY_ME: "blockedByMe" } as const;
  readonly #query: BlockedQuery;

  constructor(query: BlockedQuery) {
    super(query.page ?? 0);
    this.#query = query;
  }

  /** Returns what setLimit was given. */
  getLimit(): number | undefined {
    return this.#query.limit;
  }
  /** Returns what setSearchKeyword was given. */
  getSearchKeyword(): string | undefined {
    return this.#query.search;
  }
  /** Returns which blocks are listed. */
  getDirection(): string | undefined {
    return this.#query.direction;
  }

  /** @internal */
  protected check(): Fetch {
    const { limit, search, direction } = this.#query;
    checkLimit(limit);
    if (direction !== undefined && !Object.values(BlockedUsersRequest.directions).includes(direction as BlockDirection)) {
      throw wrong("INVALID_DIRECTION_VALUE", "The direction must be one of: both, hasBlockedMe, blockedByMe.");
    }
    const filter = { ...(limit !== undefined && { limit }), ...(search !== undefined && { search }), ...(direction && { direction: direction as BlockDirection }) };
    return (client, page) => client.blocks.list({ ...filter, page });
  }
}

/** Makes a BlockedUsersRequest. */
export class BlockedUsersRequestBuilder {
  readonly #query: BlockedQuery = {};

  #set(fields: BlockedQuery): this {
    Object.assign(this.#query, fields);
    return this;
  }
  /** Says how many users a page has, 1 to 100. It must be said. */
  setLimit(limit: number): this {
    return this.#set({ limit });
  }
  /** Finds users by the beginning of the uid or of any word of the name. */
  setSearchKeyword(search: string): this {
    return this.#set({ search });
  }
  /** Says which blocks to list: one of BlockedUsersRequest.directions. */
  setDirection(direction: string): this {
    return this.#set({ direction });
  }
  /** Lists those whom the user has blocked. */
  blockedByMe(): this {
    return this.setDirection(BlockedUsersRequest.directions.BLOCKED_BY_ME);
  }
  /** Lists those who have blocked the user. */
  hasBlockedMe(): this {
    return this.setDirection(BlockedUsersRequest.directions.HAS_BLOCKED_ME);
  }
  /** Begins behind a page: `setPage(2)` makes the first fetchNext return page 3. */
  setPage(page: number): this {
    return this.#set({ page });
  }
  /** Returns what was built. */
  build(): BlockedUsersRequest {
    return new BlockedUsersRequest({ ...this.#query });
  }
}
