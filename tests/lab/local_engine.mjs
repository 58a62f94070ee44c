// Summary: npm's aws-local-stepfunctions as a program: executes state machines, shows what they send.
// Usage: node local_engine.mjs FOLDER   (FOLDER holds node_modules)
// A line of standard input is {definition, input, context}; a line of standard output is
// {sent: [what each sendCommand was given, …], error: the execution's failure or null}. Every command
// succeeds at once, and no Wait waits. Ends with its standard input.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

// The package wants Node 22 for this alone.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
const { StateMachine } = createRequire(`${process.argv[2]}/`)('aws-local-stepfunctions');

function* states(machine) {
  for (const [name, state] of Object.entries(machine.States)) {
    yield [name, state];
    for (const branch of state.Branches ?? []) yield* states(branch);
  }
}

async function execute({ definition, input, context }) {
  const sent = [];
  const answers = {
    sendCommand: (given) => {
      sent.push(given);
      return { Command: { CommandId: String(sent.length), Status: 'Pending' } };
    },
    getCommandInvocation: () => ({ Status: 'Success', StatusDetails: 'Success', ResponseCode: 0 }),
    publish: () => ({ MessageId: '1' }),
  };
  const taskResourceLocalHandlers = {};
  const waitTimeOverrides = {};
  for (const [name, state] of states(definition)) {
    if (state.Type === 'Task') {
      taskResourceLocalHandlers[name] = answers[state.Resource.split(':').at(-1)];
    }
    if (state.Type === 'Wait') waitTimeOverrides[name] = 0;
  }
  try {
    // Its own validator refuses escapes that AWS takes.
    const machine = new StateMachine(definition, { validationOptions: { noValidate: true } });
    const overrides = { taskResourceLocalHandlers, waitTimeOverrides };
    await machine.run(input, { overrides, context }).result;
  } catch (error) {
    return { sent, error: String(error) };
  }
  return { sent, error: null };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await execute(JSON.parse(line)))}\n`);
}
