/**
 * Which file is where: every followed file, found by topic and inode and by topic and path. Knows nothing else of them.
 * The keys are what the files hold already, in a map for each topic: with ten thousand files, keys of their own would
 * take as much again as the paths.
 */
import type { SourceFile } from './source-file.ts'

interface TopicFiles {
  /** By device, then by inode. */
  readonly byInode: Map<bigint, Map<bigint, SourceFile>>
  readonly byPath: Map<string, SourceFile>
}

export class FileIndex {
  private readonly topics = new Map<string, TopicFiles>()

  get size(): number {
    let size = 0
    for (const { byInode } of this.topics.values()) for (const inodes of byInode.values()) size += inodes.size
    return size
  }

  /** May be gone through while files come and go. */
  *files(): IterableIterator<SourceFile> {
    for (const { byInode } of this.topics.values()) {
      for (const inodes of byInode.values()) yield* inodes.values()
    }
  }

  has(file: SourceFile): boolean {
    return this.find(file, file.input.topic) === file
  }

  find(at: { device: bigint; inode: bigint }, topic: string): SourceFile | undefined {
    return this.topics.get(topic)?.byInode.get(at.device)?.get(at.inode)
  }

  atPath(path: string, topic: string): SourceFile | undefined {
    return this.topics.get(topic)?.byPath.get(path)
  }

  /** Answers the file that had the inode, whose place it takes. */
  add(file: SourceFile): SourceFile | undefined {
    const { byInode } = this.of(file.input.topic)
    const inodes = byInode.get(file.device) ?? new Map<bigint, SourceFile>()
    byInode.set(file.device, inodes)
    const before = inodes.get(file.inode)
    inodes.set(file.inode, file)
    return before
  }

  /** The file is found by its path from here on, and another one no more. */
  name(file: SourceFile): void {
    this.of(file.input.topic).byPath.set(file.path, file)
  }

  /** Nothing is found by the file's path, unless another file bears it by now. */
  unname(file: SourceFile): void {
    const { byPath } = this.of(file.input.topic)
    if (byPath.get(file.path) === file) byPath.delete(file.path)
  }

  remove(file: SourceFile): void {
    const inodes = this.of(file.input.topic).byInode.get(file.device)
    if (inodes?.get(file.inode) === file) inodes.delete(file.inode)
    this.unname(file)
  }

  private of(topic: string): TopicFiles {
    const known = this.topics.get(topic)
    if (known !== undefined) return known
    const files: TopicFiles = { byInode: new Map(), byPath: new Map() }
    this.topics.set(topic, files)
    return files
  }
}
