/**
 * Whether anything may be stored now, and in which topics: the rules in front of the log that are not the log's own.
 */
import { AppError } from '../../shared/errors.ts'
import type { TopicDescription, TopicLog } from '../storage/topic-log.ts'

export interface TopicGateOptions {
  readonly log: TopicLog
  /** Whether an agent may begin a topic by sending to it. */
  readonly allowsNewTopics: boolean
  /** Why nothing may be stored, or undefined: such as an export root that is ahead of this disk. */
  readonly closedBecause: () => AppError | undefined
}

/** Each partition costs open files and memory: a sender with a bug must not make a thousand topics. */
export const TOPICS_MAX = 1000

export interface TopicGate {
  /** Throws what `closedBecause` says. */
  checkOpen(): void
  /** Throws UNKNOWN_TOPIC where the topic is not there and may not be begun. */
  checkTopic(name: string): void
  /** The topic, made if it may be. */
  openTopic(name: string): Promise<TopicDescription>
}

export function createTopicGate(options: TopicGateOptions): TopicGate {
  const checkTopic = (name: string): void => {
    if (options.log.topic(name) !== undefined) return
    if (!options.allowsNewTopics) {
      throw new AppError('UNKNOWN_TOPIC', `there is no topic ${name}, and this collector makes none by itself`, {
        hint: `tailrace topics create ${name}`,
      })
    }
    if (options.log.topics().length >= TOPICS_MAX) {
      throw new AppError('UNKNOWN_TOPIC', `there are ${TOPICS_MAX} topics already, ${name} is not made`, { hint: 'delete some, or check the sender' })
    }
  }
  return {
    checkOpen: () => {
      const reason = options.closedBecause()
      if (reason !== undefined) throw reason
    },
    checkTopic,
    openTopic: async (name) => {
      checkTopic(name)
      const known = options.log.topic(name)
      if (known !== undefined) return known
      try {
        return await options.log.createTopic(name, {})
      } catch (error) {
        // Another request made it while this one waited.
        const made = options.log.topic(name)
        if (made === undefined) throw error
        return made
      }
    },
  }
}
