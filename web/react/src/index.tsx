"use client";
/**
 * React hooks for the people of a Rollcall server and their presence. Put a RollcallProvider around the components that
 * use them.
 *
 * @packageDocumentation
 */
import { User, type ConnectionState, type PresenceStatus, type RollcallClient, type UserFilter } from "@rollcall/sdk";
import { createContext, useCallback, useContext, useEffect, useMemo, useReducer, useRef, useSyncExternalStore, type ReactNode } from "react";

const Context = createContext<RollcallClient | undefined>(undefined);

/** Gives the components within it a client. */
export function RollcallProvider({ client, children }: { client: RollcallClient; children?: ReactNode }): ReactNode {
  return <Context value={client}>{children}</Context>;
}

/** Returns the client of the nearest RollcallProvider. */
export function useRollcall(): RollcallClient {
  const client = useContext(Context);
  if (!client) throw new Error("There is no RollcallProvider around this component.");
  return client;
}

/** Returns the user who is logged in, and follows logins, logouts and what `updateMe` changes. */
export function useMe(): User | undefined {
  const client = useRollcall();
  const kept = useRef<{ text: string; user: User | undefined }>(undefined);
  const subscribe = useCallback(
    (changed: () => void) => {
      const off = [client.on("loggedIn", changed), client.on("loggedOut", changed), client.on("profile", changed)];
      return () => off.forEach((end) => end());
    },
    [client],
  );
  return useSyncExternalStore(subscribe, () => {
    const user = client.me;
    const text = JSON.stringify(user ?? null);
    if (kept.current?.text !== text) kept.current = { text, user };
    return kept.current.user;
  }, nothingYet);
}

// What there is before a page runs in a browser.
const nothingYet = () => undefined;
const notConnected = (): ConnectionState => "disconnected";

/** Returns whether there is a connection over which presence is told. */
export function useConnection(): ConnectionState {
  const client = useRollcall();
  const subscribe = useCallback((changed: () => void) => client.on("connection", changed), [client]);
  return useSyncExternalStore(subscribe, () => client.connectionState, notConnected);
}

/** Returns how a user presents itself, as far as the client's subscription tells; undefined for who is not online. */
export function usePresence(uid: string): PresenceStatus | undefined {
  const client = useRollcall();
  const subscribe = useCallback(
    (changed: () => void) => {
      const off = [client.on("presence", ({ status }) => status.uid === uid && changed()), client.on("connection", changed), client.on("loggedOut", changed)];
      return () => off.forEach((end) => end());
    },
    [client, uid],
  );
  return useSyncExternalStore(subscribe, () => client.presence.online.get(uid), nothingYet);
}

/** A list of users that grows page by page. */
export interface UserList {
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

interface State {
  users: User[];
  total: number | undefined;
  page: number;
  pages: number;
  loading: boolean;
  error: Error | undefined;
}

type Action =
  | { type: "reset" }
  | { type: "begin" }
  | { type: "page"; users: User[]; total: number; page: number; pages: number }
  | { type: "failed"; error: Error; page: number }
  | { type: "changed"; uid: string; change: (user: User) => User };

const nothing: State = { users: [], total: undefined, page: 0, pages: 1, loading: true, error: undefined };

function reduce(state: State, action: Action): State {
  switch (action.type) {
    case "reset":
      return nothing;
    case "begin":
      return { ...state, loading: true, error: undefined };
    case "page": {
      const before = action.page === 1 ? [] : state.users;
      const known = new Set(before.map(({ uid }) => uid)); // who has moved on the server is not shown twice
      return { ...action, users: [...before, ...action.users.filter(({ uid }) => !known.has(uid))], loading: false, error: undefined };
    }
    case "failed": // what is shown may be another filter's: nothing can be put behind it
      return { ...state, loading: false, error: action.error, ...(action.page === 1 && { page: 0, pages: 0 }) };
    case "changed":
      if (!state.users.some(({ uid }) => uid === action.uid)) return state;
      return { ...state, users: state.users.map((user) => (user.uid === action.uid ? action.change(user) : user)) };
  }
}

/**
 * Lists users, by default those online first. The first page is loaded at once, and anew when the filter changes; further
 * ones by `loadMore`. Users who come online or go offline change in their place.
 */
export function useUsers(filter: UserFilter = {}): UserList {
  const client = useRollcall();
  const me = useMe()?.uid;
  const key = JSON.stringify(filter);
  const [state, dispatch] = useReducer(reduce, nothing);
  const request = useRef<AbortController>(undefined);

  const load = useCallback(
    (page: number) => {
      request.current?.abort();
      const control = (request.current = new AbortController());
      dispatch({ type: "begin" });
      client.users
        .list({ ...JSON.parse(key), page }, { signal: control.signal })
        .then(
          (found) => {
            if (control.signal.aborted) return;
            // Who has come while the page was under way is not told again.
            const { online } = client.presence;
            const users = found.users.map((user) => (online.has(user.uid) ? new User({ ...user, status: "online" }) : user));
            dispatch({ type: "page", ...found, users });
          },
          (error: Error) => control.signal.aborted || dispatch({ type: "failed", error, page }),
        );
    },
    [client, key],
  );

  useEffect(() => {
    if (me !== undefined) load(1);
    return () => request.current?.abort();
  }, [load, me]);

  useEffect(() => () => dispatch({ type: "reset" }), [me]); // nobody sees the list of another

  useEffect(
    () =>
      client.on("presence", ({ status: { uid, status, lastActiveAt, user } }) => {
        dispatch({
          type: "changed",
          uid,
          change: (before) => new User({ ...before, ...(user && { name: user.name }), status, ...(lastActiveAt && { lastActiveAt }) }),
        });
      }),
    [client],
  );

  const { users, total, loading, error, page, pages } = state;
  const hasMore = page < pages;
  return useMemo(
    () => ({
      users, total, loading, error, hasMore,
      loadMore: () => {
        if (!loading && hasMore) load(page + 1);
      },
      reload: () => load(1),
      replace: (user) => dispatch({ type: "changed", uid: user.uid, change: () => user }),
    }),
    [users, total, loading, error, hasMore, page, load],
  );
}
