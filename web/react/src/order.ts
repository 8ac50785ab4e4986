import type { User, UserFilter } from "@rollcall/sdk";

/** @internal Tells which of two users comes first. */
export type Order = (a: User, b: User) => number;

const byUid: Order = (a, b) => (a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0);

const byName: Order = (a, b) => {
  const [one, other] = [folded(a.name), folded(b.name)];
  return one < other ? -1 : one > other ? 1 : byUid(a, b);
};

const onlineFirst: Order = (a, b) => Number(b.status === "online") - Number(a.status === "online");

// The natural directions: names run upward, and times downward.
const orders: Record<NonNullable<UserFilter["sortBy"]>, Order> = {
  status: (a, b) => onlineFirst(a, b) || byName(a, b),
  name: byName,
  createdAt: (a, b) => (b.createdAt ?? 0) - (a.createdAt ?? 0) || byUid(a, b),
  updatedAt: (a, b) => changedAt(b) - changedAt(a) || byUid(a, b),
  // Those online are active now, all of them.
  lastActiveAt: (a, b) =>
    onlineFirst(a, b) || (a.status === "online" ? 0 : (b.lastActiveAt ?? 0) - (a.lastActiveAt ?? 0) || byUid(a, b)),
};

/** @internal The order of a list. */
export function orderOf({ sortBy = "status", sortOrder }: UserFilter): Order {
  const order = orders[sortBy];
  return isReversed({ sortBy, ...(sortOrder && { sortOrder }) }) ? (a, b) => order(b, a) : order;
}

/** @internal Whether a list runs against the natural direction of its order. */
export function isReversed({ sortBy = "status", sortOrder }: UserFilter): boolean {
  const natural = sortBy === "status" || sortBy === "name" ? "asc" : "desc";
  return (sortOrder ?? natural) !== natural;
}

/** @internal Whether those online stand at one end of a list. */
export function goesByPresence({ sortBy = "status" }: UserFilter): boolean {
  return sortBy === "status" || sortBy === "lastActiveAt";
}

/** @internal When a user was last changed. */
export function changedAt({ createdAt = 0, updatedAt = createdAt }: User): number {
  return updatedAt;
}

// folded is a name as the server orders it: without case, accents and double spaces.
function folded(name: string): string {
  return name
    .normalize("NFKD")
    .replace(/\p{Mn}/gu, "")
    .toLowerCase()
    .replace(/\s+/g, " ")
    .trim();
}

/** @internal Puts a user into a list in order, in the place of what the list had of it. */
export function placed(users: readonly User[], user: User, order: Order): User[] {
  const at = users.findIndex(({ uid }) => uid === user.uid);
  if (at >= 0 && order(users[at]!, user) === 0) return users.map((before, i) => (i === at ? user : before));
  const others = users.filter((_, i) => i !== at);
  let [low, high] = [0, others.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (order(others[middle]!, user) <= 0) low = middle + 1;
    else high = middle;
  }
  others.splice(low, 0, user);
  return others;
}
