import { User, type FriendChange, type PresenceStatus, type RollcallClient, type UserFields, type UserFilter } from "@rollcall/sdk";

import { goesByPresence, orderOf, placed, type Order } from "./order.js";
import { Reader, type Part } from "./reader.js";

/** A list of users that grows page by page. */
export interface UserList {
  /** In the order that was asked for. */
  users: User[];
  /** How many users there are on the server; undefined until the first page has come. */
  total: number | undefined;
  loading: boolean;
  /** Why the last page did not come. */
  error: Error | undefined;
  hasMore: boolean;
  /** Loads the next page, unless one is being loaded. */
  loadMore(): void;
  /** Begins anew, with what is shown staying until the first page has come. */
  reload(): void;
  /** Puts a newer state of a user into the list, such as what a call has returned. */
  replace(user: User): void;
}

/** @internal How long nothing is typed before the server is asked, in milliseconds. */
export const typingPause = 250;

// What makes friends, or ends that.
const settled = new Set<FriendChange["change"]>(["added", "removed"]);

// Listing is a list under one filter.
interface Listing {
  filter: UserFilter;
  order: Order;
  reader: Reader;
}

/** @internal The list of useUsers: it is loaded while it is running, and follows what is told of its users. */
export class LiveList {
  readonly #client: RollcallClient;
  readonly #listeners = new Set<() => void>();
  #state: UserList;
  #running = false;
  // Whose list it is.
  #me: string | undefined;
  #filter: UserFilter | undefined;
  // What the list shows. The next one takes its place with its first page.
  #shown: Listing | undefined;
  #request: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  // What was told since the request began: the answer may not have it yet.
  #told: { status: PresenceStatus; initial: boolean }[] = [];

  constructor(client: RollcallClient) {
    this.#client = client;
    this.#state = {
      users: [],
      total: undefined,
      loading: true,
      error: undefined,
      hasMore: true,
      loadMore: () => this.#loadMore(),
      reload: () => this.#begin(),
      replace: (user) => this.#replace(user),
    };
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly state = (): UserList => this.#state;

  /** Begins to load and to follow, and returns what ends that. */
  start(): () => void {
    this.#running = true;
    const off = [
      this.#client.on("loggedIn", () => this.#changeUser() && this.#begin()),
      this.#client.on("loggedOut", () => this.#changeUser()),
      this.#client.on("presence", ({ status, initial }) => this.#hear(status, initial)),
      this.#client.on("presenceComplete", () => void this.#check()),
      this.#client.on("friend", ({ change }) => this.#filter?.friendsOnly && settled.has(change) && this.#begin()),
    ];
    this.#changeUser();
    this.#begin();
    return () => {
      this.#running = false;
      for (const end of off) end();
      this.#cancel();
    };
  }

  /** Shows those whom a filter selects. While somebody types, nothing is asked. */
  show(filter: UserFilter): void {
    const typing = this.#filter !== undefined && filter.search !== this.#filter.search;
    this.#filter = filter;
    this.#begin(typing ? typingPause : 0);
  }

  #set(changes: Partial<UserList>): void {
    this.#state = { ...this.#state, ...changes };
    for (const listener of [...this.#listeners]) listener();
  }

  #cancel(): void {
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.#request = undefined;
  }

  // Nobody sees the list of another. It returns whether there is another user.
  #changeUser(): boolean {
    const me = this.#client.me?.uid;
    if (me === this.#me) return false;
    this.#cancel();
    this.#me = me;
    this.#shown = undefined;
    this.#set({ users: [], total: undefined, loading: true, error: undefined, hasMore: true });
    return true;
  }

  #begin(pause = 0): void {
    if (!this.#running || this.#me === undefined || this.#filter === undefined) return;
    const filter = this.#filter;
    const next = { filter, order: orderOf(filter), reader: new Reader(this.#client, filter) };
    this.#cancel();
    if (pause === 0) return void this.#load(next);
    this.#set({ loading: true, error: undefined });
    this.#timer = setTimeout(() => void this.#load(next), pause);
  }

  #loadMore(): void {
    if (this.#shown && !this.#state.loading && this.#state.hasMore) void this.#load(this.#shown);
  }

  async #load(listing: Listing): Promise<void> {
    const request = (this.#request = new AbortController());
    const { signal } = request;
    this.#told = [];
    this.#set({ loading: true, error: undefined });
    const known = listing === this.#shown ? this.#state.users : [];
    try {
      const part = await listing.reader.next(new Map(known.map((user) => [user.uid, user])), signal);
      if (!signal.aborted) this.#take(listing, part);
    } catch (error) {
      if (signal.aborted) return;
      // What is shown may be another filter's: nothing can be put behind it.
      this.#set({ loading: false, error: error as Error, ...(listing !== this.#shown && { hasMore: false }) });
    }
    if (this.#request === request) this.#request = undefined;
  }

  #take(listing: Listing, { users, total, whole }: Part): void {
    const before = whole || listing !== this.#shown ? [] : this.#state.users;
    const all = new Map([...before, ...users].map((user) => [user.uid, user]));
    this.#shown = listing;
    this.#state = { ...this.#state, users: [...all.values()].sort(listing.order), total, hasMore: listing.reader.more };
    for (const { status, initial } of this.#told.splice(0)) this.#follow(status, initial);
    this.#set({ loading: false });
  }

  #replace(user: User): void {
    const { users } = this.#state;
    if (!this.#shown || !users.some(({ uid }) => uid === user.uid)) return;
    this.#set({ users: placed(users, user, this.#shown.order) });
  }

  #hear(status: PresenceStatus, initial: boolean): void {
    if (this.#request) this.#told.push({ status, initial });
    const before = this.#state;
    this.#follow(status, initial);
    if (this.#state !== before) this.#set({});
  }

  // Does to the list what a status means for it.
  #follow({ uid, status, lastActiveAt, user }: PresenceStatus, initial: boolean): void {
    if (!this.#shown) return;
    const { filter, order } = this.#shown;
    const { users, total = 0, hasMore } = this.#state;
    const before = users.find((user) => user.uid === uid);
    if (!before) {
      const comes = !initial && status !== "offline" && user && new User({ ...profileOf(user, filter), uid, status });
      if (!comes || !mayJoin(comes, filter) || (hasMore && order(comes, users.at(-1) ?? comes) >= 0)) return;
      this.#state = {
        ...this.#state,
        users: placed(users, comes, order),
        total: total + (filter.status || !hasMore ? 1 : 0),
      };
      return;
    }
    const after = new User({
      ...before,
      ...(user && profileOf(user, filter)),
      status,
      ...(lastActiveAt && { lastActiveAt }),
    });
    if (user && after.name !== before.name) Object.assign(after, { updatedAt: Math.floor(Date.now() / 1000) });
    if (filter.status && after.status !== filter.status) {
      this.#state = { ...this.#state, users: users.filter((user) => user !== before), total: total - 1 };
    } else if (JSON.stringify(after) !== JSON.stringify(before)) {
      this.#state = { ...this.#state, users: placed(users, after, order) };
    }
  }

  // A new session begins with who is online now. Who has left since the list was read, and before that, is asked for.
  async #check(): Promise<void> {
    const { online } = this.#client.presence;
    const doubtful = this.#state.users
      .filter(({ uid, status }) => status === "online" && !online.has(uid))
      .map(({ uid }) => uid);
    for (let at = 0; at < doubtful.length; at += 1000) {
      const found = await this.#client.presence.query(doubtful.slice(at, at + 1000)).catch(() => []);
      for (const status of found) if (!this.#client.presence.online.has(status.uid)) this.#hear(status, true);
    }
  }
}

// profileOf is what is told of a user's profile, and takes the place of what was known of it.
function profileOf(
  { name, avatar, link, role, metadata, statusMessage, tags }: UserFields,
  { withTags }: UserFilter,
): Partial<UserFields> {
  const profile = { name, avatar, link, role, metadata, statusMessage, ...(withTags && { tags }) };
  return profile as Partial<UserFields>;
}

// mayJoin reports whether a list holds a user who was not loaded, as far as that can be said here.
function mayJoin(user: User, filter: UserFilter): boolean {
  if (!goesByPresence(filter) || filter.status === "offline") return false;
  const { search, tags, uids, metadata, friendsOnly, roles } = filter;
  if (search?.trim() || tags?.length || uids?.length || metadata || friendsOnly) return false;
  return !roles?.length || roles.includes(user.role ?? "");
}
