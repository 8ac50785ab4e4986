/** A user as the server sends it. Times are Unix seconds. */
export interface UserFields {
  /** Names the user in the app: letters, digits, - and _, in lower case. */
  uid: string;
  /** What people see. */
  name: string;
  /** The address of a picture. */
  avatar?: string;
  /** The address of a profile page. */
  link?: string;
  /** The role; each user has one. */
  role?: string;
  /** What the app keeps with the user. */
  metadata?: object;
  /** What the user says of itself. */
  statusMessage?: string;
  /** Texts to find users by; lists leave them out unless asked for. */
  tags?: string[];
  /** `online` or `offline`. */
  status?: string;
  /** When the user was last active, in Unix seconds. */
  lastActiveAt?: number;
  /** Whether the user has blocked the one who is logged in. */
  hasBlockedMe?: boolean;
  /** Whether the one who is logged in has blocked the user. */
  blockedByMe?: boolean;
  /** When the user was deactivated, in Unix seconds; 0 for never. */
  deactivatedAt?: number;
  /** When the user was created, in Unix seconds. */
  createdAt?: number;
  /** When the user was last changed, in Unix seconds; absent for never. */
  updatedAt?: number;
  /** When the one who is logged in has blocked the user, in Unix seconds. */
  blockedByMeAt?: number;
  /** When the user has blocked the one who is logged in, in Unix seconds. */
  hasBlockedMeAt?: number;
  /** When the first of the two blocked the other, in Unix seconds. */
  blockedAt?: number;
  /** Names the conversation of the two, for a messaging backend. */
  conversationId?: string;
}

/** What of a user can be changed. An empty text clears avatar, link and statusMessage. */
export interface UserPatch {
  /** What people see. */
  name?: string;
  /** The address of a picture. */
  avatar?: string;
  /** The address of a profile page. */
  link?: string;
  /** The role; each user has one. */
  role?: string;
  /** What the app keeps with the user. */
  metadata?: object;
  /** What the user says of itself. */
  statusMessage?: string;
  /** Texts to find users by; lists leave them out unless asked for. */
  tags?: string[];
}

/** Whether somebody is online. */
export type UserStatus = "online" | "offline";

const editable = ["name", "avatar", "link", "role", "metadata", "statusMessage", "tags"] as const;

/**
 * A user. The uid is fixed when the user is created; name, avatar, link, role, metadata, statusMessage and tags can be
 * changed; the rest is the server's to say.
 */
export class User {
  /** Names the user in the app: letters, digits, - and _, in lower case. */
  declare readonly uid: string;
  /** What people see. */
  declare name: string;
  /** The address of a picture. */
  declare avatar?: string;
  /** The address of a profile page. */
  declare link?: string;
  /** The role; each user has one. */
  declare role?: string;
  /** What the app keeps with the user. */
  declare metadata?: object;
  /** What the user says of itself. */
  declare statusMessage?: string;
  /** Texts to find users by; lists leave them out unless asked for. */
  declare tags?: string[];
  /** What setAuthToken was given. */
  declare authToken?: string;
  /** `online` or `offline`. */
  declare readonly status?: UserStatus;
  /** When the user was last active, in Unix seconds. */
  declare readonly lastActiveAt?: number;
  /** Whether the user has blocked the one who is logged in. */
  readonly hasBlockedMe: boolean = false;
  /** Whether the one who is logged in has blocked the user. */
  readonly blockedByMe: boolean = false;
  /** When the user was deactivated, in Unix seconds; 0 for never. */
  readonly deactivatedAt: number = 0;
  /** When the user was created, in Unix seconds. */
  declare readonly createdAt?: number;
  /** When the user was last changed, in Unix seconds; absent for never. */
  declare readonly updatedAt?: number;
  /** When the one who is logged in has blocked the user, in Unix seconds. */
  declare readonly blockedByMeAt?: number;
  /** When the user has blocked the one who is logged in, in Unix seconds. */
  declare readonly hasBlockedMeAt?: number;
  /** When the first of the two blocked the other, in Unix seconds. */
  declare readonly blockedAt?: number;
  /** Names the conversation of the two, for a messaging backend. */
  declare readonly conversationId?: string;

  /** Makes a user to be created or changed: from a uid and a name, or from its fields. */
  constructor(uid: string | Partial<UserFields>, name?: string) {
    if (typeof uid === "object") {
      Object.assign(this, uid);
      this.setStatus(uid.status ?? "offline");
      return;
    }
    this.#set({ uid, ...(name === undefined ? {} : { name }) });
  }

  #set(fields: Partial<UserFields>): void {
    Object.assign(this, fields);
  }

  /** Returns the uid. */
  getUid(): string {
    return this.uid;
  }
  /** Sets the uid. */
  setUid(uid: string): void {
    this.#set({ uid });
  }
  /** Returns the name. */
  getName(): string {
    return this.name;
  }
  /** Sets the name; an empty one is ignored. */
  setName(name: string): void {
    if (name) this.name = name;
  }
  /** Returns the address of the picture. */
  getAvatar(): string | undefined {
    return this.avatar;
  }
  /** Sets the address of the picture. */
  setAvatar(avatar: string): void {
    this.avatar = avatar;
  }
  /** Returns the address of the profile page. */
  getLink(): string | undefined {
    return this.link;
  }
  /** Sets the address of the profile page. */
  setLink(link: string): void {
    this.link = link;
  }
  /** Returns the role. */
  getRole(): string | undefined {
    return this.role;
  }
  /** Sets the role. */
  setRole(role: string): void {
    this.role = role;
  }
  /** Returns what the app keeps with the user. */
  getMetadata(): object | undefined {
    return this.metadata;
  }
  /** Sets what the app keeps with the user. */
  setMetadata(metadata: object): void {
    this.metadata = metadata;
  }
  /** Returns the status message. */
  getStatusMessage(): string | undefined {
    return this.statusMessage;
  }
  /** Sets the status message. */
  setStatusMessage(statusMessage: string): void {
    this.statusMessage = statusMessage;
  }
  /** Returns the tags; lists leave them out unless asked for. */
  getTags(): string[] | undefined {
    return this.tags;
  }
  /** Sets the tags; lists leave them out unless asked for. */
  setTags(tags: string[]): void {
    this.tags = tags;
  }
  /** Returns whether the user is online. */
  getStatus(): UserStatus | undefined {
    return this.status;
  }
  /** Says how this object shows the user; the server is not told. */
  setStatus(status: string): void {
    this.#set({ status: status === "offline" ? "offline" : "online" });
  }
  /** Returns when the user was last active, in Unix seconds. */
  getLastActiveAt(): number | undefined {
    return this.lastActiveAt;
  }
  /** Sets when the user was last active, in Unix seconds. */
  setLastActiveAt(lastActiveAt: number): void {
    this.#set({ lastActiveAt });
  }
  /** Returns whether the user has blocked the one who is logged in. */
  getHasBlockedMe(): boolean {
    return this.hasBlockedMe;
  }
  /** Sets whether the user has blocked the one who is logged in. */
  setHasBlockedMe(hasBlockedMe: boolean): void {
    this.#set({ hasBlockedMe });
  }
  /** Returns whether the one who is logged in has blocked the user. */
  getBlockedByMe(): boolean {
    return this.blockedByMe;
  }
  /** Sets whether the one who is logged in has blocked the user. */
  setBlockedByMe(blockedByMe: boolean): void {
    this.#set({ blockedByMe });
  }
  /** Returns when the user was deactivated, in Unix seconds; 0 for never. */
  getDeactivatedAt(): number {
    return this.deactivatedAt;
  }
  /** Sets when the user was deactivated, in Unix seconds; 0 for never. */
  setDeactivatedAt(deactivatedAt: number): void {
    this.#set({ deactivatedAt });
  }
  /** Returns what setAuthToken was given: the token of a login stays inside the library. */
  getAuthToken(): string | undefined {
    return this.authToken;
  }
  /** Notes a token with the user; it is not sent. */
  setAuthToken(authToken: string): void {
    this.authToken = authToken;
  }
}

/** A user as the server has it: with what it sends of every user. */
export type StoredUser = User & { readonly status: UserStatus; role: string; readonly createdAt: number };

/** @internal The user that the server has sent. */
export function stored(fields: UserFields): StoredUser {
  return new User(fields) as StoredUser;
}

/** @internal The fields of a user that can be changed, as far as they are set. */
export function patchOf(user: Partial<User> | UserPatch): UserPatch {
  const patch: Record<string, unknown> = {};
  for (const field of editable) if (user[field] !== undefined) patch[field] = user[field];
  return patch;
}
