import type { Answer, Call, CallOptions, Query } from "./http.js";
import { patchOf, stored, type StoredUser, type User, type UserFields, type UserPatch } from "./user.js";
import { checkAuthKey, checkChangedUser, checkNewUser, checkUid, checkUids } from "./validation.js";

/** @internal Makes a call as the user who is logged in. */
export type Caller = <T>(call: Call) => Promise<Answer<T>>;

/** Whom a list is to hold, and in which order. All of it is optional, and filters combine. */
export interface UserFilter {
  /** The beginning of a uid, or of any word of a name. */
  search?: string;
  /** Where to search; both by default. */
  searchIn?: ("uid" | "name")[];
  /** Whether they are online. */
  status?: "online" | "offline";
  /** Users with any of these roles. */
  roles?: string[];
  /** Users with any of these tags. */
  tags?: string[];
  /** These users, at most 25. */
  uids?: string[];
  /** Friends of the one who is logged in. */
  friendsOnly?: boolean;
  /** Users by values of metadata keys that the app declares: all of the keys, any of the values of each. */
  metadata?: Record<string, string | string[]>;
  /** Leaves out those between whom and the one who is logged in there is a block. */
  hideBlockedUsers?: boolean;
  /** Tags are left out unless asked for. */
  withTags?: boolean;
  /** By default those online come first, and each part goes by name. */
  sortBy?: "status" | "name" | "createdAt" | "updatedAt" | "lastActiveAt";
  /** By default names run upward and times downward. */
  sortOrder?: "asc" | "desc";
  /** How many users a page has, 1 to 100; 30 by default. */
  limit?: number;
}

/** A page of users. */
export interface UserPage {
  /** The users of the page. */
  users: StoredUser[];
  /** Its number, from 1; 1 in a walk. */
  page: number;
  /** How many pages there are. */
  pages: number;
  /** How many users there are in all pages. */
  total: number;
  /** In a walk, the cursor of the next page; absent on the last. */
  nextCursor?: string;
}

/** Which blocks to list: those the user made, those others made of the user, or both. */
export type BlockDirection = "blockedByMe" | "hasBlockedMe" | "both";

/** @internal The query of a list (contract rest.md section 1.3). */
export function queryOf(filter: UserFilter): Query {
  const some = (values?: string[]) => (values?.length ? values : undefined);
  const flag = (on?: boolean) => (on ? 1 : undefined);
  return {
    per_page: filter.limit ?? 30,
    searchKey: filter.search?.trim() || undefined,
    searchIn: some(filter.searchIn),
    status: filter.status === "online" ? "available" : filter.status,
    roles: some(filter.roles),
    tags: some(filter.tags),
    uids: some(filter.uids),
    friendsOnly: flag(filter.friendsOnly),
    hideBlockedUsers: flag(filter.hideBlockedUsers),
    withTags: flag(filter.withTags),
    sortBy: filter.sortBy,
    sortOrder: filter.sortOrder,
    ...Object.fromEntries(Object.entries(filter.metadata ?? {}).map(([key, values]) => [`metadata[${key}]`, values])),
  };
}

/** @internal Which page of a list. */
export type Place = { page: number } | { cursor: string };

/** @internal Reads a page of a list. */
export async function listPage(call: Caller, path: string, filter: Query, at: Place, options: CallOptions): Promise<UserPage> {
  const query = { ...filter, ...at };
  const { data, meta } = await call<UserFields[]>({ method: "GET", path, query, signal: options.signal });
  const { pagination, nextCursor } = meta ?? {};
  const { total = data.length, total_pages: pages = 1 } = pagination ?? {};
  const page = "page" in at ? at.page : 1;
  return { users: data.map(stored), page, pages, total, ...(nextCursor && { nextCursor }) };
}

/** @internal Reads a list to its end. */
export async function* walk(call: Caller, path: string, query: Query, options: CallOptions): AsyncGenerator<StoredUser, void, undefined> {
  for (let cursor: string | undefined = "start"; cursor; ) {
    const page: UserPage = await listPage(call, path, query, { cursor }, options);
    yield* page.users;
    cursor = page.nextCursor;
  }
}

async function* pages(call: Caller, path: string, query: Query, options: CallOptions): AsyncGenerator<StoredUser, void, undefined> {
  for (let number = 1; ; number++) {
    const { users, pages } = await listPage(call, path, query, { page: number }, options);
    yield* users;
    if (number >= pages) return;
  }
}

/** The people of the app. */
export class Users {
  readonly #call: Caller;
  readonly #changed: (user: UserFields) => void;

  /** @internal changed is told how a user is after an update. */
  constructor(call: Caller, changed: (user: UserFields) => void) {
    this.#call = call;
    this.#changed = changed;
  }

  /** Returns a user as the one who is logged in may see it. Rejects with `ERR_UID_NOT_FOUND`, `INVALID_UID`. */
  async get(uid: string, options: CallOptions = {}): Promise<StoredUser> {
    checkUid(uid);
    return stored((await this.#call<UserFields>({ method: "GET", path: `/users/${encodeURIComponent(uid)}`, signal: options.signal })).data);
  }

  /**
   * Returns a page of users, the first by default. With the cursor `start`, and then each `nextCursor`, it walks:
   * whoever exists and does not change comes exactly once. A walk goes by what is stored: it does not begin with
   * those online, and takes no `status`.
   */
  list(filter: UserFilter & { page?: number; cursor?: string } = {}, options: CallOptions = {}): Promise<UserPage> {
    const at = filter.cursor === undefined ? { page: filter.page ?? 1 } : { cursor: filter.cursor };
    return listPage(this.#call, "/users", queryOf(filter), at, options);
  }

  /**
   * Iterates over all users that a filter selects, asking for pages as they are needed. Users who come, go or change
   * meanwhile do not make it miss others or name them twice; with `status`, which changes by the second, they can.
   */
  all(filter: UserFilter = {}, options: CallOptions = {}): AsyncGenerator<StoredUser, void, undefined> {
    const query = queryOf({ limit: 100, ...filter });
    return filter.status ? pages(this.#call, "/users", query, options) : walk(this.#call, "/users", query, options);
  }

  /** Creates a user with the auth key of the app. Rejects with `ERR_UID_ALREADY_EXISTS`, `ERR_BAD_REQUEST`. */
  async create(user: User | (UserPatch & { uid: string; name: string }), authKey: string, options: CallOptions = {}): Promise<StoredUser> {
    checkAuthKey(authKey);
    checkNewUser(user as User);
    const body = { uid: user.uid, ...patchOf(user) };
    return stored((await this.#call<UserFields>({ method: "POST", path: "/users", body, authKey, signal: options.signal })).data);
  }

  /** Changes what is set of a user, with the auth key of the app. Rejects with `ERR_UID_NOT_FOUND`, `ERR_BAD_REQUEST`. */
  async update(user: User | (UserPatch & { uid: string }), authKey: string, options: CallOptions = {}): Promise<StoredUser> {
    checkAuthKey(authKey);
    checkChangedUser(user as User);
    const path = `/users/${encodeURIComponent(user.uid)}`;
    const { data } = await this.#call<UserFields>({ method: "PUT", path, body: patchOf(user), authKey, signal: options.signal });
    this.#changed(data);
    return stored(data);
  }
}

/** What became of one uid of several. */
export interface ItemResult {
  /** Whether it was done, or was so already. */
  success: boolean;
  /** What happened, in words. */
  message: string;
  /** Why it was refused, such as `ERR_UID_NOT_FOUND`. */
  code?: string;
}

/** @internal What became of each uid, with the codes of those that were refused. */
export function resultsOf({ data, meta }: Answer<Record<string, ItemResult>>): Record<string, ItemResult> {
  for (const [uid, code] of Object.entries(meta?.codes ?? {})) if (data[uid]) data[uid].code = code;
  return data;
}

/** Whom the user who is logged in has blocked, and by whom it is blocked. */
export class Blocks {
  readonly #call: Caller;

  /** @internal */
  constructor(call: Caller) {
    this.#call = call;
  }

  /** Blocks users. The answer says what became of each uid. */
  add(uids: string[], options: CallOptions = {}): Promise<Record<string, ItemResult>> {
    return this.#change("POST", uids, options);
  }

  /** Ends blocks. The answer says what became of each uid. */
  remove(uids: string[], options: CallOptions = {}): Promise<Record<string, ItemResult>> {
    return this.#change("DELETE", uids, options);
  }

  async #change(method: "POST" | "DELETE", uids: string[], { signal }: CallOptions): Promise<Record<string, ItemResult>> {
    checkUids(uids);
    return resultsOf(await this.#call<Record<string, ItemResult>>({ method, path: "/blockedusers", body: { blockedUids: uids }, signal }));
  }

  /** Returns a page of users between whom and the one logged in there is a block. */
  list(filter: { direction?: BlockDirection; search?: string; limit?: number; page?: number } = {}, options: CallOptions = {}): Promise<UserPage> {
    const query = { per_page: filter.limit ?? 30, searchKey: filter.search?.trim() || undefined, direction: filter.direction };
    return listPage(this.#call, "/blockedusers", query, { page: filter.page ?? 1 }, options);
  }
}
