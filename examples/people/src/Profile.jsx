import { useMe, useRollcall } from "@rollcall/react";
import { useState } from "react";

// chosen is how this device presents each user: the client keeps it until the page is loaded again or the user logs out.
const chosen = new Map();

// Profile edits what the user says of itself, and how this device presents itself to others.
export function Profile({ onDone }) {
  const client = useRollcall();
  const me = useMe();
  const [problem, setProblem] = useState("");

  async function save(form) {
    setProblem("");
    try {
      await client.updateMe({ name: form.get("name"), statusMessage: form.get("statusMessage") });
      chosen.set(me.uid, form.get("status"));
      client.presence.setStatus({ status: form.get("status") });
      onDone();
    } catch (error) {
      setProblem(error.message);
    }
  }

  return (
    <form className="profile" action={save}>
      {problem && <p className="problem" role="alert">{problem}</p>}
      <label>Name <input name="name" defaultValue={me.name} maxLength="100" required /></label>
      <label>Status message <input name="statusMessage" defaultValue={me.statusMessage ?? ""} maxLength="200" /></label>
      <label>Show me as{" "}
        <select name="status" defaultValue={chosen.get(me.uid) ?? "online"}>
          <option>online</option>
          <option>away</option>
          <option>busy</option>
          <option>invisible</option>
        </select>
      </label>
      <div className="actions">
        <button className="primary">Save</button>
        <button type="button" onClick={onDone}>Cancel</button>
      </div>
    </form>
  );
}
