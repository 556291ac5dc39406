// OpenAI's client for Node, unchanged, against a server of the demo model that has its plans and asks for a key:
//   OPENAI_API_KEY=… node check.mjs http://127.0.0.1:8000
// Each check says one line; the first that fails ends it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError, RateLimitError } from 'openai';

const baseURL = `${process.argv[2]}/v1`;
const client = new OpenAI({ baseURL, maxRetries: 0 });
const CAT = ' cat. I like the cat because it catches mice.';
const DOG = ' dog. I like the dog because it guards the house.';
const PROMPT = '<|bos|><|user|> What is your favourite animal?<|end|><|assistant|>';
const chat = {
  model: 'demo',
  temperature: 0,
  max_completion_tokens: 20,
  messages: [{ role: 'user', content: 'What is your favourite animal?' }],
};
const plan = JSON.parse(readFileSync('dogs.json'));

async function check(what, work) {
  await work();
  console.log(`ok  ${what}`);
}

await check('chat', async () => {
  const answer = await client.chat.completions.create(chat);
  assert.equal(answer.object, 'chat.completion');
  assert.equal(answer.choices[0].message.content, CAT);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.equal(answer.halter.plan, null);
});

await check('plan as a field, by name and in full', async () => {
  const named = await client.chat.completions.create({ ...chat, plan: 'dogs' });
  assert.equal(named.choices[0].message.content, DOG);
  assert.equal(named.halter.plan, 'dogs');
  assert.ok(named.halter.report.interventions[0].tokens > 0);
  const whole = await client.chat.completions.create({ ...chat, plan });
  assert.equal(whole.choices[0].message.content, DOG);
});

await check('plan as a header and as a model', async () => {
  const header = await client.chat.completions.create(chat, { headers: { 'X-Halter-Plan': 'dogs' } });
  assert.equal(header.choices[0].message.content, DOG);
  const alias = await client.chat.completions.create({ ...chat, model: 'demo@dogs' });
  assert.equal(alias.choices[0].message.content, DOG);
  assert.equal(alias.model, 'demo@dogs');
});

await check('stream of a chat', async () => {
  const stream = await client.chat.completions.create({
    ...chat, plan: 'dogs', stream: true, stream_options: { include_usage: true },
  });
  let text = '';
  let last;
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'chat.completion.chunk');
    text += chunk.choices[0]?.delta?.content ?? '';
    last = chunk;
  }
  assert.equal(text, DOG);
  assert.ok(last.usage.completion_tokens > 5);
  assert.equal(last.halter.plan, 'dogs');
});

await check("the client's own gathering of a stream", async () => {
  const runner = client.chat.completions.stream(chat);
  let shown = '';
  runner.on('content', (delta) => { shown += delta; });
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].message.content, CAT);
  assert.equal(shown, CAT);
});

await check('a stream that is broken off', async () => {
  const stream = await client.completions.create({
    model: 'demo', prompt: PROMPT, max_tokens: 500, temperature: 0, stream: true, ignore_eos: true,
  });
  let chunks = 0;
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'text_completion');
    if (++chunks === 3) break;
  }
  assert.equal(chunks, 3);
});

await check('completions of several prompts, with echo', async () => {
  const answer = await client.completions.create({
    model: 'demo', prompt: [PROMPT, PROMPT], n: 2, max_tokens: 20, temperature: 0, echo: true,
  });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2, 3]);
  for (const choice of answer.choices) assert.equal(choice.text, PROMPT + CAT);
});

await check('log-probabilities of both', async () => {
  const told = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 3 });
  const [first] = told.choices[0].logprobs.content;
  assert.equal(first.top_logprobs.length, 3);
  assert.equal(first.logprob, first.top_logprobs[0].logprob);
  assert.equal(Buffer.from(first.bytes).toString(), first.token);
  const completion = await client.completions.create({
    model: 'demo', prompt: PROMPT, max_tokens: 20, temperature: 0, logprobs: 2,
  });
  const { tokens, token_logprobs, top_logprobs } = completion.choices[0].logprobs;
  assert.equal(tokens.length, completion.usage.completion_tokens);
  assert.equal(token_logprobs[0], Math.max(...Object.values(top_logprobs[0])));
});

await check('activations that come with the answer', async () => {
  const answer = await client.chat.completions.create({
    ...chat, capture: { sites: ['blocks.*.hook_resid_post'], positions: 'last' },
  });
  const file = Buffer.from(answer.halter.capture.base64, 'base64');
  const header = JSON.parse(file.subarray(8, 8 + Number(file.readBigUInt64LE(0))).toString());
  assert.equal(header['0/blocks.0.hook_resid_post'].shape[0], 1);
});

await check('models', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes('demo') && ids.includes('demo@dogs'));
  assert.equal((await client.models.retrieve('demo@dogs')).id, 'demo@dogs');
});

await check('errors are the types that they should be', async () => {
  const wrong = async (type, status, param, work) => {
    const error = await work.then(() => assert.fail('no error'), (e) => e);
    assert.ok(error instanceof type && error instanceof APIError, String(error));
    assert.ok(!(error instanceof RateLimitError));
    assert.equal(error.status, status);
    assert.equal(error.param ?? null, param);
    assert.ok(error.message.length > 10);
  };
  const bad = (fields) => client.chat.completions.create({ ...chat, ...fields });
  await wrong(NotFoundError, 404, 'model', bad({ model: 'gpt-4' }));
  await wrong(BadRequestError, 400, 'model', bad({ model: 'demo@cats' }));
  await wrong(BadRequestError, 400, 'plan', bad({ plan: 'cats' }));
  await wrong(BadRequestError, 400, 'temperature', bad({ temperature: -1 }));
  await wrong(BadRequestError, 400, 'temperature', bad({ temperature: -1, stream: true }));
  const stranger = new OpenAI({ baseURL, apiKey: 'guess', maxRetries: 0 });
  await wrong(AuthenticationError, 401, null, stranger.models.list());
});
