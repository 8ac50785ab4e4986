/** A user as the server sends it. Times are Unix seconds. */
export interface UserFields {
  uid: string;
  name: string;
  avatar?: string;
  link?: string;
  role?: string;
  metadata?: object;
  statusMessage?: string;
  tags?: string[];
  status?: string;
  lastActiveAt?: number;
  hasBlockedMe?: boolean;
  blockedByMe?: boolean;
  deactivatedAt?: number;
}

/** What of a user can be changed. An empty text clears avatar, link and statusMessage. */
export interface UserPatch {
  name?: string;
  avatar?: string;
  link?: string;
  role?: string;
  metadata?: object;
  statusMessage?: string;
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
  declare readonly uid: string;
  declare name: string;
  declare avatar?: string;
  declare link?: string;
  declare role?: string;
  declare metadata?: object;
  declare statusMessage?: string;
  declare tags?: string[];
  declare readonly status?: UserStatus;
  /** When the user was last active, in Unix seconds. */
  declare readonly lastActiveAt?: number;
  readonly hasBlockedMe: boolean = false;
  readonly blockedByMe: boolean = false;
  /** When the user was deactivated, in Unix seconds; 0 for never. */
  readonly deactivatedAt: number = 0;

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

  getUid(): string {
    return this.uid;
  }
  setUid(uid: string): void {
    this.#set({ uid });
  }
  getName(): string {
    return this.name;
  }
  /** Sets the name; an empty one is ignored. */
  setName(name: string): void {
    if (name) this.name = name;
  }
  getAvatar(): string | undefined {
    return this.avatar;
  }
  setAvatar(avatar: string): void {
    this.avatar = avatar;
  }
  getLink(): string | undefined {
    return this.link;
  }
  setLink(link: string): void {
    this.link = link;
  }
  getRole(): string | undefined {
    return this.role;
  }
  setRole(role: string): void {
    this.role = role;
  }
  getMetadata(): object | undefined {
    return this.metadata;
  }
  setMetadata(metadata: object): void {
    this.metadata = metadata;
  }
  getStatusMessage(): string | undefined {
    return this.statusMessage;
  }
  setStatusMessage(statusMessage: string): void {
    this.statusMessage = statusMessage;
  }
  getTags(): string[] | undefined {
    return this.tags;
  }
  setTags(tags: string[]): void {
    this.tags = tags;
  }
  getStatus(): UserStatus | undefined {
    return this.status;
  }
  /** Says how this object shows the user; the server is not told. */
  setStatus(status: string): void {
    this.#set({ status: status === "offline" ? "offline" : "online" });
  }
  getLastActiveAt(): number | undefined {
    return this.lastActiveAt;
  }
  setLastActiveAt(lastActiveAt: number): void {
    this.#set({ lastActiveAt });
  }
  getHasBlockedMe(): boolean {
    return this.hasBlockedMe;
  }
  setHasBlockedMe(hasBlockedMe: boolean): void {
    this.#set({ hasBlockedMe });
  }
  getBlockedByMe(): boolean {
    return this.blockedByMe;
  }
  setBlockedByMe(blockedByMe: boolean): void {
    this.#set({ blockedByMe });
  }
  getDeactivatedAt(): number {
    return this.deactivatedAt;
  }
  setDeactivatedAt(deactivatedAt: number): void {
    this.#set({ deactivatedAt });
  }
  /** Users of this library hold no token: always undefined. */
  getAuthToken(): string | undefined {
    return undefined;
  }
}

/** @internal The fields of a user that can be changed, as far as they are set. */
export function patchOf(user: Partial<User> | UserPatch): UserPatch {
  const patch: Record<string, unknown> = {};
  for (const field of editable) if (user[field] !== undefined) patch[field] = user[field];
  return patch;
}
