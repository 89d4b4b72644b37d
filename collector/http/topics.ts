/**
 * Topics over HTTP: list, create, alter, delete, roll. Settings are checked here, at the edge; what a change means for
 * partitions and offsets is the log's business.
 */
import { AppError } from '../../shared/errors.ts'
import { jsonResponse } from '../../shared/http-body.ts'
import type { ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import type { System } from '../../shared/system.ts'
import {
  alterTopicSchema, checkTopicName, createTopicSchema, parseJson, paths, type TopicConfigRequest, type TopicInfo, type TopicsResponse,
} from '../../shared/wire.ts'
import type { ReadableLog, TopicConfig, TopicDescription, TopicLog } from '../storage/topic-log.ts'
import { readJson } from './conversation.ts'
import type { IdempotencyWindow } from './idempotency.ts'
import { param, type Route, type RouteContext } from './router.ts'
import { TOPICS_MAX } from './topic-gate.ts'

export interface TopicsDependencies {
  readonly system: Pick<System, 'log'>
  readonly log: TopicLog
  /** The same with what can be read back from the export: what listings tell. */
  readonly readable: ReadableLog
  readonly window: IdempotencyWindow
}

const topicPath = `${paths.topics}/:topic`

export function createTopicsRoutes(dependencies: TopicsDependencies): readonly Route[] {
  return [
    ...createTopicListingRoutes(dependencies.readable),
    { method: 'POST', pattern: paths.topics, role: 'admin', handler: (request, context) => createTopic(request, context, dependencies) },
    { method: 'PATCH', pattern: topicPath, role: 'admin', handler: (request, context) => alterTopic(request, context, dependencies) },
    { method: 'DELETE', pattern: topicPath, role: 'admin', handler: (_request, context) => deleteTopic(context, dependencies) },
    { method: 'POST', pattern: `${topicPath}/roll`, role: 'admin', handler: (_request, context) => rollTopic(context, dependencies) },
  ]
}

/** Those that change nothing. */
export function createTopicListingRoutes(readable: ReadableLog): readonly Route[] {
  return [
    {
      method: 'GET',
      pattern: paths.topics,
      role: 'read',
      handler: () => Promise.resolve(jsonResponse({ topics: readable.topics().map(topicInfo) } satisfies TopicsResponse)),
    },
    { method: 'GET', pattern: topicPath, role: 'read', handler: (_request, context) => Promise.resolve(jsonResponse(topicInfo(needTopic(readable, context)))) },
  ]
}

function topicInfo({ name, config, partitions }: TopicDescription): TopicInfo {
  return {
    name,
    config: {
      partitions: config.partitions,
      segmentBytes: config.segmentBytes,
      segmentAgeMs: config.segmentAgeMs,
      retentionBytes: config.retentionBytes ?? null,
      retentionAgeMs: config.retentionAgeMs ?? null,
    },
    partitions: partitions.map((partition) => ({
      partition: partition.partition,
      logStartOffset: partition.logStartOffset,
      localLogStartOffset: partition.localLogStartOffset,
      highWatermark: partition.highWatermark,
      logEndOffset: partition.logEndOffset,
      segments: partition.segmentCount,
      sizeBytes: partition.sizeBytes,
      firstAppendMs: partition.firstAppendMs ?? null,
      lastAppendMs: partition.lastAppendMs ?? null,
      state: partition.state,
    })),
  }
}

function needTopic(log: ReadableLog, context: RouteContext): TopicDescription {
  const name = checkTopicName(param(context, 'topic'))
  const topic = log.topic(name)
  if (topic === undefined) throw new AppError('UNKNOWN_TOPIC', `there is no topic ${name}`, { hint: 'tailrace topics lists them' })
  return topic
}

async function createTopic(request: ServerRequest, { caller }: RouteContext, { system, log }: TopicsDependencies): Promise<ServerResponse> {
  const { name, config } = parseJson(createTopicSchema, await readJson(request), 'topic')
  checkTopicName(name)
  if (log.topics().length >= TOPICS_MAX) throw new AppError('CONFLICT', `there are ${TOPICS_MAX} topics already`, { hint: 'delete some' })
  const topic = await log.createTopic(name, configOf(config ?? {}))
  system.log.info('topic created', { topic: name, by: caller.name, config: topic.config })
  return jsonResponse(topicInfo(topic), 201)
}

async function alterTopic(request: ServerRequest, context: RouteContext, { system, log, readable }: TopicsDependencies): Promise<ServerResponse> {
  const { config } = parseJson(alterTopicSchema, await readJson(request), 'topic')
  const { name } = needTopic(log, context)
  const topic = await log.alterTopic(name, configOf(config))
  system.log.info('topic altered', { topic: name, by: context.caller.name, config: topic.config })
  return jsonResponse(topicInfo(needTopic(readable, context)))
}

/** Absent keys stay as they are; null becomes undefined, which is how the log says unlimited. */
function configOf(request: TopicConfigRequest): Partial<TopicConfig> {
  const { partitions, segmentBytes, segmentAgeMs, retentionBytes, retentionAgeMs } = request
  return {
    ...(partitions === undefined ? {} : { partitions }),
    ...(segmentBytes === undefined ? {} : { segmentBytes }),
    ...(segmentAgeMs === undefined ? {} : { segmentAgeMs }),
    ...(retentionBytes === undefined ? {} : { retentionBytes: retentionBytes ?? undefined }),
    ...(retentionAgeMs === undefined ? {} : { retentionAgeMs: retentionAgeMs ?? undefined }),
  }
}

async function deleteTopic(context: RouteContext, { system, log, window }: TopicsDependencies): Promise<ServerResponse> {
  const { name } = needTopic(log, context)
  await log.deleteTopic(name)
  window.forget(name)
  system.log.info('topic deleted', { topic: name, by: context.caller.name })
  return jsonResponse({ deleted: name })
}

/** Seals what every partition holds, so that export can take it now. */
async function rollTopic(context: RouteContext, { log, readable }: TopicsDependencies): Promise<ServerResponse> {
  const topic = needTopic(log, context)
  for (const { partition } of topic.partitions) await log.roll(topic.name, partition)
  return jsonResponse(topicInfo(needTopic(readable, context)))
}
