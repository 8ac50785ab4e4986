import type { OwnChange } from "./connection.js";
import type { CallOptions } from "./http.js";
import type { StoredUser } from "./user.js";
import { listPage, resultsOf, walk, type Caller, type ItemResult, type UserPage } from "./users.js";
import { checkUids } from "./validation.js";

/** Which friends, or whose requests, to list. They come by name. */
export interface FriendFilter {
  /** The beginning of a uid, or of any word of a name. */
  search?: string;
  /** Tags are left out unless asked for. */
  withTags?: boolean;
  /** How many users a page has, 1 to 100; 30 by default. */
  limit?: number;
}

/** What has happened between the one who is logged in and another user. */
export interface FriendChange {
  /**
   * `requested`: asked to be friends; `added`: the two are friends now, by an answer or by a backend; `refused`: turned
   * a request down; `withdrawn`: took a request back; `removed`: the two are friends no more.
   */
  change: "requested" | "added" | "refused" | "withdrawn" | "removed";
  /** The other user. */
  uid: string;
  /** Whether the one who is logged in did it, on any device, and not the other. */
  byMe: boolean;
}

/**
 * The friends of the user who is logged in, and who has asked whom to be friends. What others do comes as
 * `client.on("friend", …)`. A call takes at most 25 uids, and says what became of each.
 */
export class Friends {
  readonly #call: Caller;

  /** @internal */
  constructor(call: Caller) {
    this.#call = call;
  }

  /**
   * Asks others to be friends. Who has asked already is a friend at once. Results have `ERR_ALREADY_FRIEND`,
   * `ERR_UID_NOT_FOUND`, … as code.
   */
  ask(uids: string[], options: CallOptions = {}): Promise<Record<string, ItemResult>> {
    return this.#settle("POST", "uids", uids, options);
  }

  /** Accepts requests of others. Results have `ERR_FRIEND_REQUEST_NOT_FOUND` as code where there is none. */
  accept(uids: string[], options: CallOptions = {}): Promise<Record<string, ItemResult>> {
    return this.#settle("PUT", "accept", uids, options);
  }

  /** Refuses requests of others. */
  refuse(uids: string[], options: CallOptions = {}): Promise<Record<string, ItemResult>> {
    return this.#settle("PUT", "refuse", uids, options);
  }

  /** Takes own requests back. */
  withdraw(uids: string[], options: CallOptions = {}): Promise<Record<string, ItemResult>> {
    return this.#settle("PUT", "withdraw", uids, options);
  }

  async #settle(
    method: "POST" | "PUT", what: string, uids: string[], { signal }: CallOptions,
  ): Promise<Record<string, ItemResult>> {
    checkUids(uids);
    const body = { [what]: uids };
    return resultsOf(await this.#call<Record<string, ItemResult>>({ method, path: "/friend_requests", body, signal }));
  }

  /** Ends friendships. Who is not a friend stays so. */
  async remove(uids: string[], { signal }: CallOptions = {}): Promise<{ success: boolean; message: string }> {
    checkUids(uids);
    const body = { friends: uids };
    return (await this.#call<{ success: boolean; message: string }>({ method: "DELETE", path: "/friends", body, signal })).data;
  }

  /** Returns a page of friends, the first by default. */
  list(filter: FriendFilter & { page?: number } = {}, options: CallOptions = {}): Promise<UserPage> {
    return listPage(this.#call, "/friends", queryOf(filter), { page: filter.page ?? 1 }, options);
  }

  /** Iterates over all friends, asking for pages as they are needed. */
  all(filter: FriendFilter = {}, options: CallOptions = {}): AsyncGenerator<StoredUser, void, undefined> {
    return walk(this.#call, "/friends", queryOf({ limit: 100, ...filter }), options);
  }

  /** Returns a page of those who wait for an answer, or with the direction `sent` of those whose answer is waited for. */
  requests(
    filter: FriendFilter & { direction?: "received" | "sent"; page?: number } = {}, options: CallOptions = {},
  ): Promise<UserPage> {
    const query = { ...queryOf(filter), direction: filter.direction };
    return listPage(this.#call, "/friend_requests", query, { page: filter.page ?? 1 }, options);
  }
}

function queryOf({ search, withTags, limit }: FriendFilter) {
  return { per_page: limit ?? 30, searchKey: search?.trim() || undefined, withTags: withTags ? 1 : undefined };
}

/** @internal What a change frame of the socket says of a friend; undefined when it is about something else. */
export function friendChange({ kind = "", subject, object }: OwnChange, me: string): FriendChange | undefined {
  const [what, change] = kind.split(".");
  if (what !== "friend" || !subject || !object) return undefined;
  const byMe = subject === me;
  return { change: change as FriendChange["change"], uid: byMe ? object : subject, byMe };
}
