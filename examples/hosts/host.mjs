// A host in Node without packages: `node host.mjs fleetprompt agent --root DIR`.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const [program, ...words] = process.argv.slice(2);
const agent = spawn(program, words, { stdio: ["pipe", "pipe", "inherit"] });
const waiting = new Map();
let last = 0;

const send = (message) => agent.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");

// Many calls may be in flight: each answer finds its own by the id.
const call = (method, params = {}, onStatus = () => {}) =>
  new Promise((resolve, reject) => {
    const id = ++last;
    waiting.set(String(id), { resolve, reject, onStatus });
    send({ id, method, params });
  });

createInterface({ input: agent.stdout }).on("line", (line) => {
  const message = JSON.parse(line);
  if (message.method === "agent.tool.stream") {
    const { call_id, channel, data } = message.params;
    if (channel === "status") waiting.get(call_id)?.onStatus(data, call_id);
  } else if ("id" in message && !("method" in message)) {
    const { resolve, reject } = waiting.get(String(message.id));
    waiting.delete(String(message.id));
    if (message.error) reject(new Error(message.error.message));
    else resolve(message.result);
  }
});

const show = (data) => console.log("status", data.text);
const meta = { stream: true };
const inputs = { version: "2" };

const { workflows } = await call("fp_list_workflows");
console.log("list", ...workflows.map((one) => one.workflow_id));
const described = await call("fp_describe_workflow", { workflow: "release" });
console.log("describe", ...described.inputs.required);
console.log("validate", (await call("fp_validate_workflow", { workflow: "release" })).valid);
const plan = await call("fp_plan_workflow", { workflow: "release", inputs });
console.log("plan", ...plan.side_effects);
let run = await call("fp_run_workflow", { workflow: "release", inputs, meta }, show);
while (run.status === "waiting") {
  const gate = run.gates[0];
  console.log("gate", gate.kind, gate.step_path ?? "-", gate.preview ?? "-");
  run = await call("fp_resume_run", { token: gate.token, approve: true, meta }, show);
}
console.log("run", run.status, run.outputs.said);

run = await call("fp_run_workflow", { workflow: "slow" });
const { token } = run.gates[0];
run = await call("fp_resume_run", { token, approve: true, meta }, (data, id) => {
  if (data.state === "started") send({ method: "$/cancelRequest", params: { id: Number(id) } });
});
console.log("run", run.status);
const { events } = await call("fp_get_timeline", { run_id: run.run_id });
console.log("timeline", events.at(0).type, events.at(-1).type);
agent.stdin.end();
const [code] = await once(agent, "close");
process.exitCode = code;
