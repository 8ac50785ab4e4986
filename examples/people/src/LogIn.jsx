import { useRollcall } from "@rollcall/react";
import { useEffect, useState } from "react";

// LogIn lets a visitor choose who to be. An app asks for a password here: the backend mints the token for whom it has checked.
export function LogIn() {
  const client = useRollcall();
  const [people, setPeople] = useState([]);
  const [problem, setProblem] = useState("");

  useEffect(() => {
    fetch("/api/people").then((answer) => answer.json()).then(setPeople).catch((error) => setProblem(error.message));
  }, []);

  async function logIn(uid) {
    setProblem("");
    try {
      const answer = await fetch("/api/token", { method: "POST", body: new URLSearchParams({ uid }) });
      if (!answer.ok) throw new Error(await answer.text());
      await client.login(await answer.json());
    } catch (error) {
      setProblem(error.message);
    }
  }

  return (
    <main className="card log-in">
      <h1>Who are you?</h1>
      <p className="muted">Choose somebody, and open a second browser as somebody else.</p>
      {problem && <p className="problem" role="alert">{problem}</p>}
      <div className="choices">
        {people.map(({ uid, name }) => (
          <button key={uid} onClick={() => logIn(uid)}>
            <Avatar name={name} />
            {name}
          </button>
        ))}
      </div>
    </main>
  );
}

// Avatar is the first letter of a name on a colour that goes with it.
export function Avatar({ name, children }) {
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  return (
    <span className="avatar" style={{ "--hue": hue }} aria-hidden="true">
      {[...name][0]?.toUpperCase()}
      {children}
    </span>
  );
}
