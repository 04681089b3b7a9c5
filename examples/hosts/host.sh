#!/usr/bin/env bash
# A host in bash and jq: `bash host.sh fleetprompt agent --root DIR`.
set -euo pipefail

coproc AGENT { exec "$@"; }
pid=$AGENT_PID
id=0

send() { jq -cn "$@" >&"${AGENT[1]}"; }

# call METHOD PARAMS [ON_STATUS]: leaves the result in $result.
call() {
  id=$((id + 1))
  send --argjson id $id --arg method "$1" --argjson params "$2" '{jsonrpc: "2.0", $id, $method, $params}'
  local line text
  while IFS= read -r line <&"${AGENT[0]}"; do
    text=$(jq -r 'select(.params.channel == "status") | .params.data.text' <<<"$line")
    if [[ -n $text ]]; then
      "${3:-:}" "$text"
    elif jq -e --argjson id $id '.id == $id and .error' <<<"$line" >/dev/null; then
      jq -r .error.message <<<"$line" >&2
      exit 1
    elif jq -e --argjson id $id '.id == $id' <<<"$line" >/dev/null; then
      result=$(jq -c .result <<<"$line")
      return
    fi
  done
  echo "the agent has ended" >&2
  exit 1
}

get() { jq -r "$1" <<<"$result"; }
show() { echo "status $1"; }
cancel() {
  if [[ $1 == *": started" ]]; then
    send --argjson id $id '{jsonrpc: "2.0", method: "$/cancelRequest", params: {$id}}'
  fi
}

call fp_list_workflows '{}'
echo "list $(get '[.workflows[].workflow_id] | join(" ")')"
call fp_describe_workflow '{"workflow": "release"}'
echo "describe $(get '.inputs.required | join(" ")')"
call fp_validate_workflow '{"workflow": "release"}'
echo "validate $(get .valid)"
call fp_plan_workflow '{"workflow": "release", "inputs": {"version": "2"}}'
echo "plan $(get '.side_effects | join(" ")')"
call fp_run_workflow '{"workflow": "release", "inputs": {"version": "2"}, "meta": {"stream": true}}' show
while [[ $(get .status) == waiting ]]; do
  echo "gate $(get '.gates[0] | "\(.kind) \(.step_path // "-") \(.preview // "-")"')"
  call fp_resume_run "$(get '{token: .gates[0].token, approve: true, meta: {stream: true}}')" show
done
echo "run $(get '"\(.status) \(.outputs.said)"')"

call fp_run_workflow '{"workflow": "slow"}'
call fp_resume_run "$(get '{token: .gates[0].token, approve: true, meta: {stream: true}}')" cancel
echo "run $(get .status)"
call fp_get_timeline "$(get '{run_id: .run_id}')"
echo "timeline $(get '.events | "\(first.type) \(last.type)"')"
exec {AGENT[1]}>&-
wait "$pid"
