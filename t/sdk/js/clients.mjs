// The official JavaScript SDKs as clients. Prints nothing when all is well; the first thing
// that is not ends it with an error. Arguments: the gateway's address, a route's host, and
// which client to be.
import assert from 'node:assert/strict'
import http from 'node:http'
import OpenAI from 'openai'
import Anthropic from '@anthropic-ai/sdk'
import { createOpenAI } from '@ai-sdk/openai'
import { generateText, streamText, tool } from 'ai'
import { z } from 'zod'

const [gateway, host, which] = process.argv.slice(2)

// send is fetch with a Host header of our choice, which fetch itself forbids.
function send(url, init = {}) {
  const { method = 'GET', headers, body, signal } = init
  return new Promise((resolve, reject) => {
    const req = http.request(url, { method, signal, headers: { ...Object.fromEntries(new Headers(headers)), host } }, (res) => {
      const stream = new ReadableStream({
        start(c) {
          res.on('data', (p) => c.enqueue(new Uint8Array(p)))
          res.on('end', () => (res.complete ? c.close() : c.error(new Error('the answer is not complete'))))
          res.on('error', (e) => { try { c.error(e) } catch {} })
        },
        cancel() { res.destroy() },
      })
      resolve(new Response(stream, { status: res.statusCode, headers: Object.entries(res.headers).map(([k, v]) => [k, String(v)]) }))
    })
    req.on('error', reject)
    req.end(body)
  })
}

const said = 'I am owl, and I hear: hello'
const look = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] }
const chat = (content) => ({ model: 'm', messages: [{ role: 'user', content }] })

const clients = {
  async openai() {
    const c = new OpenAI({ baseURL: gateway + '/v1', apiKey: 'client', fetch: send, maxRetries: 0 })
    const whole = await c.chat.completions.create(chat('hello'))
    assert.equal(whole.choices[0].message.content, said)
    const stream = c.chat.completions.stream({ ...chat('hello'), stream_options: { include_usage: true } })
    assert.equal((await stream.finalContent()).trim(), said)
    assert.equal((await stream.totalUsage()).total_tokens, 14)
    const left = await c.chat.completions.create({ ...chat('hello'), stream: true })
    for await (const _ of left) { left.controller.abort(); break }
  },
  async openaiTools() {
    const c = new OpenAI({ baseURL: gateway + '/v1', apiKey: 'client', fetch: send, maxRetries: 0 })
    let asked
    const run = c.chat.completions.runTools({ ...chat('the sky'), stream: true, tools: [{ type: 'function', function: {
      name: 'look', description: 'looks', parameters: look, parse: JSON.parse, function: ({ text }) => { asked = text; return 'it is blue' },
    } }] })
    assert.equal((await run.finalContent()).trim(), 'I am owl, and I hear: it is blue')
    assert.equal(asked, 'the sky')
  },
  async openaiError() {
    const c = new OpenAI({ baseURL: gateway + '/v1', apiKey: 'client', fetch: send, maxRetries: 0 })
    await assert.rejects(c.chat.completions.create(chat('hello')), OpenAI.RateLimitError)
  },
  async openaiCut() {
    const c = new OpenAI({ baseURL: gateway + '/v1', apiKey: 'client', fetch: send, maxRetries: 0 })
    await assert.rejects(c.chat.completions.stream(chat('hello')).finalContent())
  },
  async anthropic() {
    const c = new Anthropic({ baseURL: gateway, apiKey: 'client', fetch: send, maxRetries: 0 })
    const params = { model: 'm', max_tokens: 100, messages: [{ role: 'user', content: 'hello' }] }
    const whole = await c.messages.create(params)
    assert.equal(whole.content[0].text, said)
    assert.equal(whole.stop_reason, 'end_turn')
    const stream = c.messages.stream(params)
    assert.equal((await stream.finalText()).trim(), said)
    assert.equal((await stream.finalMessage()).usage.output_tokens, 7)
  },
  async anthropicMute() {
    const c = new Anthropic({ baseURL: gateway, apiKey: 'client', fetch: send, maxRetries: 0 })
    const stream = c.messages.stream({ model: 'm', max_tokens: 100, messages: [{ role: 'user', content: 'hello' }] })
    assert.equal((await stream.finalText()).trim(), said)
    assert.equal((await stream.finalMessage()).usage.output_tokens, 0)
  },
  async anthropicTools() {
    const c = new Anthropic({ baseURL: gateway, apiKey: 'client', fetch: send, maxRetries: 0 })
    const params = { model: 'm', max_tokens: 100, messages: [{ role: 'user', content: 'the sky' }], tools: [{ name: 'look', input_schema: look }] }
    const called = await c.messages.stream(params).finalMessage()
    assert.equal(called.stop_reason, 'tool_use')
    const call = called.content.at(-1)
    assert.deepEqual(call.input, { text: 'the sky' })
    params.messages.push({ role: 'assistant', content: called.content })
    params.messages.push({ role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: 'it is blue' }] })
    assert.equal((await c.messages.stream(params).finalText()).trim(), 'I am owl, and I hear: it is blue')
  },
  async anthropicError() {
    const c = new Anthropic({ baseURL: gateway, apiKey: 'client', fetch: send, maxRetries: 0 })
    await assert.rejects(c.messages.create({ model: 'm', max_tokens: 1, messages: [{ role: 'user', content: 'x' }] }), Anthropic.RateLimitError)
  },
  async ai() {
    for (const model of [(c) => c.chat('m'), (c) => c.responses('m')]) {
      const c = model(createOpenAI({ baseURL: gateway + '/v1', apiKey: 'client', fetch: send }))
      assert.equal((await generateText({ model: c, prompt: 'hello', maxRetries: 0 })).text, said)
      const stream = streamText({ model: c, prompt: 'hello', maxRetries: 0 })
      assert.equal((await stream.text).trim(), said)
      assert.equal((await stream.usage).outputTokens, 7)
    }
  },
  async aiTools() {
    let asked
    const tools = { look: tool({ description: 'looks', inputSchema: z.object({ text: z.string() }), execute: async ({ text }) => { asked = text; return 'it is blue' } }) }
    const c = createOpenAI({ baseURL: gateway + '/v1', apiKey: 'client', fetch: send }).chat('m')
    await streamText({ model: c, prompt: 'the sky', tools, maxRetries: 0 }).consumeStream()
    assert.equal(asked, 'the sky')
  },
}

await clients[which]()
process.exit(0)
