/**
 * Users, login, blocking, friends and live presence from a Rollcall server.
 *
 * There are two ways in. {@link RollcallClient} is the modern one: promises, async iterators, AbortSignal, typed events.
 * {@link Rollcall} has the calls of the official SDK in their familiar shape.
 *
 * @packageDocumentation
 */
export * as Rollcall from "./rollcall.js";
export { RollcallClient, Presence } from "./client.js";
export type { ClientEvents, ClientOptions, ClientSettings, Credentials, LogoutReason } from "./client.js";
export type { Closed, ConnectionState, DeviceStatus, OwnStatus, PresenceStatus, Subscription } from "./connection.js";
export { RollcallError } from "./errors.js";
export type { ErrorFields } from "./errors.js";
export { Emitter } from "./events.js";
export { Friends } from "./friends.js";
export type { FriendChange, FriendFilter } from "./friends.js";
export type { CallOptions } from "./http.js";
export type { StorageMode, Store } from "./storage.js";
export { User } from "./user.js";
export type { StoredUser, UserFields, UserPatch, UserStatus } from "./user.js";
export { Blocks, Users } from "./users.js";
export type { BlockDirection, ItemResult, UserFilter, UserPage } from "./users.js";
export type { Socket, SocketConstructor } from "./websocket.js";
