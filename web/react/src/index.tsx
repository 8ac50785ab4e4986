"use client";
/**
 * React hooks for the people of a Rollcall server and their presence. Put a RollcallProvider around the components that
 * use them.
 *
 * @packageDocumentation
 */
import type { ConnectionState, PresenceStatus, RollcallClient, User, UserFilter } from "@rollcall/sdk";
import {
  createContext, useCallback, useContext, useEffect, useMemo, useRef, useSyncExternalStore, type ReactNode,
} from "react";

import { LiveList, type UserList } from "./list.js";

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

export type { UserList } from "./list.js";

/**
 * Lists users, by default those online first. The first page is loaded at once, and anew when the filter changes,
 * after a pause in typing; further ones by `loadMore`. Users who come online, go offline or change their names move
 * to their places, as far as the client's subscription tells of them.
 */
export function useUsers(filter: UserFilter = {}): UserList {
  const client = useRollcall();
  const list = useMemo(() => new LiveList(client), [client]);
  const key = JSON.stringify(filter);
  useEffect(() => list.show(JSON.parse(key)), [list, key]);
  useEffect(() => list.start(), [list]);
  return useSyncExternalStore(list.subscribe, list.state, list.state);
}
