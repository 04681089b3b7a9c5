"""A host in Python's standard library: `python host.py fleetprompt agent --root DIR`."""

import itertools
import json
import subprocess
import sys

agent = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
numbers = itertools.count(1)


def send(**message):
    agent.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    agent.stdin.flush()


def call(method, on_status=print, **params):
    """The result of a tool; what it streams goes to `on_status` before."""
    number = next(numbers)
    send(id=number, method=method, params=params)
    for line in agent.stdout:
        message = json.loads(line)
        if message.get("method") == "agent.tool.stream":
            if message["params"]["channel"] == "status":
                on_status(number, message["params"]["data"])
        elif message.get("id") == number:
            if "error" in message:
                sys.exit(message["error"]["message"])
            return message["result"]
    sys.exit("the agent has ended")


def show(_, data):
    print("status", data["text"])


print("list", *[one["workflow_id"] for one in call("fp_list_workflows")["workflows"]])
print("describe", *call("fp_describe_workflow", workflow="release")["inputs"]["required"])
print("validate", json.dumps(call("fp_validate_workflow", workflow="release")["valid"]))
plan = call("fp_plan_workflow", workflow="release", inputs={"version": "2"})
print("plan", *plan["side_effects"])
inputs, stream = {"version": "2"}, {"stream": True}
run = call("fp_run_workflow", show, workflow="release", inputs=inputs, meta=stream)
while run["status"] == "waiting":
    gate = run["gates"][0]
    print("gate", gate["kind"], gate["step_path"] or "-", gate["preview"] or "-")
    run = call("fp_resume_run", show, token=gate["token"], approve=True, meta=stream)
print("run", run["status"], run["outputs"]["said"])

run = call("fp_run_workflow", workflow="slow")
token = run["gates"][0]["token"]


def cancel(number, data):
    if data["state"] == "started":
        send(method="$/cancelRequest", params={"id": number})


run = call("fp_resume_run", cancel, token=token, approve=True, meta=stream)
print("run", run["status"])
events = call("fp_get_timeline", run_id=run["run_id"])["events"]
print("timeline", events[0]["type"], events[-1]["type"])
agent.stdin.close()
sys.exit(agent.wait())
