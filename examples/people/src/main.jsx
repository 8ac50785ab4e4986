import { RollcallClient } from "@rollcall/sdk";
import { RollcallProvider, useMe } from "@rollcall/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { LogIn } from "./LogIn.jsx";
import { People } from "./People.jsx";
import "./style.css";

const { appId, host } = await (await fetch("/api/config")).json();
const client = new RollcallClient({ appId, host, subscribe: "all" });

function App() {
  return useMe() ? <People /> : <LogIn />;
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <RollcallProvider client={client}>
      <App />
    </RollcallProvider>
  </StrictMode>,
);
