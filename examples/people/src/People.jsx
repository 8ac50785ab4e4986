import { useConnection, useMe, usePresence, useRollcall, useUsers } from "@rollcall/react";
import { useEffect, useRef, useState } from "react";

import { Avatar } from "./LogIn.jsx";
import { Profile } from "./Profile.jsx";

const filters = {
  Everybody: {},
  Online: { status: "online" },
  Friends: { friendsOnly: true },
  Team: { roles: ["team"] },
};

export function People() {
  const client = useRollcall();
  const me = useMe();
  const connection = useConnection();
  const [search, setSearch] = useState("");
  const [filter, setFilter] = useState("Everybody");
  const [hideBlocked, setHideBlocked] = useState(false);
  const [editing, setEditing] = useState(false);
  const list = useUsers({ search, hideBlockedUsers: hideBlocked, ...filters[filter] });

  return (
    <main className="card">
      <header>
        <Avatar name={me.name} />
        <div className="who">
          <h1>{me.name}</h1>
          <p className="muted">{me.statusMessage || "No status message"}</p>
        </div>
        <span className={`connection ${connection}`}>{connection}</span>
        <button onClick={() => setEditing(!editing)} aria-expanded={editing}>Edit profile</button>
        <button onClick={() => client.logout().catch(() => {}) /* the page has logged out even when the server cannot be told */}>Log out</button>
      </header>
      {editing && <Profile onDone={() => setEditing(false)} />}
      <div className="tools">
        <input type="search" aria-label="Search people" placeholder="Search by name" value={search} onChange={(event) => setSearch(event.target.value)} />
        <div className="filters" role="group" aria-label="Filter">
          {Object.keys(filters).map((name) => (
            <button key={name} aria-pressed={name === filter} onClick={() => setFilter(name)}>{name}</button>
          ))}
        </div>
        <label><input type="checkbox" checked={hideBlocked} onChange={(event) => setHideBlocked(event.target.checked)} /> Hide blocked</label>
      </div>
      <p className="muted count" aria-live="polite">{list.total === undefined ? "Loading…" : `${list.total} ${list.total === 1 ? "person" : "people"}`}</p>
      {list.error && <p className="problem" role="alert">{list.error.message} <button onClick={list.hasMore ? list.loadMore : list.reload}>Try again</button></p>}
      <ul className="people" aria-busy={list.loading}>
        {list.users.map((user) => <Person key={user.uid} user={user} onChange={list.replace} />)}
      </ul>
      {list.total === 0 && <p className="muted empty">Nobody is here.</p>}
      <More list={list} />
    </main>
  );
}

function Person({ user, onChange }) {
  const client = useRollcall();
  const presence = usePresence(user.uid);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const status = presence?.status ?? user.status;

  async function toggleBlock() {
    setBusy(true);
    setProblem("");
    try {
      await (user.blockedByMe ? client.blocks.remove([user.uid]) : client.blocks.add([user.uid]));
      onChange(await client.users.get(user.uid));
    } catch (error) {
      setProblem(error.message);
    } finally {
      setBusy(false);
    }
  }

  return (
    <li className={user.blockedByMe ? "blocked" : undefined} data-uid={user.uid}>
      <Avatar name={user.name}><span className={`dot ${status}`} /></Avatar>
      <div className="who">
        <strong>{user.name}</strong>
        {problem && <span className="problem" role="alert">{problem}</span>}
        <span className="muted">{presence?.statusText || user.statusMessage || lastSeen(user, status)}</span>
      </div>
      <span className="status">{status}</span>
      <button onClick={toggleBlock} disabled={busy}>{user.blockedByMe ? "Unblock" : "Block"}</button>
    </li>
  );
}

function lastSeen(user, status) {
  if (status !== "offline" || user.blockedByMe || user.hasBlockedMe) return ""; // with a block in between, nobody is told
  return user.lastActiveAt ? `Last seen ${new Date(user.lastActiveAt * 1000).toLocaleString()}` : "Never seen";
}

// More loads the next page when it comes into sight.
function More({ list }) {
  const end = useRef(null);
  const { hasMore, loading, error, loadMore } = list;
  useEffect(() => {
    if (!hasMore || loading || error) return; // after an error, it is the visitor who tries again
    const watch = new IntersectionObserver(([entry]) => entry.isIntersecting && loadMore(), { rootMargin: "200px" });
    watch.observe(end.current);
    return () => watch.disconnect();
  }, [hasMore, loading, error, loadMore]);
  return <div ref={end} className="more muted">{hasMore && !error ? "Loading more…" : ""}</div>;
}
