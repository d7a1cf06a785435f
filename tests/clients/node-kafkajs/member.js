// One member of a group by kafkajs, which tells its history on standard output.
//
// Arguments: the client's settings as JSON, the member's name, its group, its topic and the assignor (range, which
// kafkajs does not have: its only one, round robin, serves). SIGTERM closes it in order.

const fs = require('fs')
const { Kafka, logLevel } = require('kafkajs')

const [settings, name, group, topic] = process.argv.slice(2)
const client = JSON.parse(settings)

const say = (event, fields) => {
  const line = { at: Number(process.hrtime.bigint()), group, member: name, event, ...fields }
  // Synchronous: a killed member has told what it did.
  fs.writeSync(1, JSON.stringify(line) + '\n')
}

const kafka = new Kafka({
  clientId: name,
  brokers: [client.bootstrap],
  ssl: { ca: [fs.readFileSync(client.trust)] },
  sasl: { mechanism: client.mechanism.toLowerCase(), username: client.user, password: client.password },
  logLevel: logLevel.ERROR
})
const consumer = kafka.consumer({
  groupId: group,
  sessionTimeout: 6000,
  heartbeatInterval: 500,
  rebalanceTimeout: 15000,
  maxWaitTimeInMs: 300,
  allowAutoTopicCreation: false
})

let owned = []
const giveUp = event => {
  if (owned.length > 0) say(event, { partitions: owned })
  owned = []
}
consumer.on(consumer.events.REBALANCING, () => giveUp('revoked'))
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  // A member that was dropped joins again without having been told to rebalance.
  giveUp('lost')
  owned = payload.memberAssignment[topic] || []
  say('assigned', { partitions: owned })
})
consumer.on(consumer.events.CRASH, ({ payload }) => console.error(payload.error))

let stopping = false
let busy = Promise.resolve()
const eachBatch = work => {
  if (!stopping) busy = handle(work)
  return busy
}

async function handle ({ batch, resolveOffset, heartbeat }) {
  let next
  for (const message of batch.messages) {
    const offset = Number(message.offset)
    say('record', { partition: batch.partition, offset, value: message.value.toString() })
    resolveOffset(message.offset)
    next = offset + 1
  }
  const offsets = [{ topic, partition: batch.partition, offset: String(next) }]
  await consumer.commitOffsets(offsets)
  say('committed', { offsets: [[batch.partition, next]] })
  await heartbeat()
}

async function close () {
  // What was begun is finished before leaving.
  stopping = true
  await busy.catch(() => {})
  say('closing')
  await consumer.disconnect()
  say('closed')
  process.exit(0)
}

async function main () {
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  process.on('SIGTERM', close)
  await consumer.run({ autoCommit: false, eachBatch })
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
