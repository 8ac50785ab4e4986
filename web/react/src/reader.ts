import type { RollcallClient, User, UserFilter, UserPage } from "@rollcall/sdk";

import { changedAt, goesByPresence, isReversed } from "./order.js";

/** @internal A part of a list. */
export interface Part {
  users: User[];
  /** How many users there are on the server. */
  total: number;
  /** Whether it is the list from its beginning, and not what comes next. */
  whole: boolean;
}

// What a call may ask for at most.
const mostAtOnce = 100;

/**
 * @internal Reads a list part by part, so that nobody is missed who comes, goes or changes between two parts. Those
 * online are read in pages, and then everybody in a walk, which does not shift. Who has changed meanwhile, and so may
 * have moved behind the walk, is read at its end. A filter by status allows no walk: such a list is read from its
 * beginning each time.
 */
export class Reader {
  readonly #client: RollcallClient;
  readonly #filter: UserFilter;
  readonly #limit: number;
  #stage: "pages" | "walk" | "changes" | "end";
  #page = 1;
  #cursor = "start";
  #total = 0;
  // What has been read of the part under way. A call that fails does not lose it.
  #part = new Map<string, User>();

  constructor(client: RollcallClient, filter: UserFilter) {
    this.#client = client;
    this.#filter = filter;
    this.#limit = filter.limit ?? 30;
    this.#stage = filter.status || goesByPresence(filter) ? "pages" : "walk";
  }

  /** Whether there is more to be read. */
  get more(): boolean {
    return this.#stage !== "end";
  }

  /** Reads on until there are as many others as a page has, or nobody else. After a failure it can be called again. */
  async next(known: ReadonlyMap<string, User>, signal: AbortSignal): Promise<Part> {
    if (this.#filter.status) return this.#again(known.size + this.#limit, signal);
    const others = () => [...this.#part.keys()].filter((uid) => !known.has(uid)).length;
    do await this.#read(known, signal);
    while (this.#stage === "changes" || (this.more && others() < this.#limit));
    const users = [...this.#part.values()];
    this.#part = new Map();
    return { users, total: this.#total, whole: false };
  }

  async #again(count: number, signal: AbortSignal): Promise<Part> {
    const limit = Math.min(count, mostAtOnce);
    const users: User[] = [];
    for (let page = 1; ; page++) {
      const found = await this.#client.users.list({ ...this.#filter, limit, page }, { signal });
      users.push(...found.users);
      if (page < found.pages && users.length < count) continue;
      if (page >= found.pages) this.#stage = "end";
      return { users, total: found.total, whole: true };
    }
  }

  async #read(known: ReadonlyMap<string, User>, signal: AbortSignal): Promise<void> {
    const ask = (more: object) => this.#client.users.list({ ...this.#filter, ...more }, { signal });
    switch (this.#stage) {
      case "pages": {
        const found = await ask({ page: this.#page });
        this.#take(found);
        const onlyOnline = !isReversed(this.#filter) && found.users.at(-1)?.status === "online";
        if (this.#page === 1 && found.pages <= 1) this.#stage = "end";
        else if (onlyOnline && this.#page < found.pages) this.#page++;
        else this.#stage = "walk";
        return;
      }
      case "walk": {
        const found = await ask({ cursor: this.#cursor });
        this.#take(found);
        const atOnce = this.#cursor === "start";
        this.#cursor = found.nextCursor ?? "start";
        if (!found.nextCursor) this.#stage = atOnce ? "end" : "changes";
        return;
      }
      case "changes": {
        const found = await ask({ cursor: this.#cursor, sortBy: "updatedAt", sortOrder: "desc", limit: mostAtOnce });
        const isNews = (user: User) => {
          const had = this.#part.get(user.uid) ?? known.get(user.uid);
          return !had || had.name !== user.name || changedAt(had) !== changedAt(user);
        };
        const news = found.users.some(isNews);
        this.#take(found);
        const count = new Set([...known.keys(), ...this.#part.keys()]).size;
        if (found.nextCursor && (news || count < found.total)) this.#cursor = found.nextCursor;
        else this.#stage = "end";
      }
    }
  }

  #take({ users, total }: Pick<UserPage, "users" | "total">): void {
    for (const user of users) this.#part.set(user.uid, user);
    this.#total = total;
  }
}
