import { Rollcall, RollcallClient } from "./index.js";

Object.assign(globalThis, { Rollcall, RollcallClient });
