import { describe, expect, test } from 'vitest'
import { classifyFailure, failureToError } from '../../../collector/export/webhdfs-errors.ts'

function remote(exception: string, message = ''): string {
  return JSON.stringify({ RemoteException: { exception, javaClassName: `org.apache.hadoop.${exception}`, message } })
}

describe('a WebHDFS failure', () => {
  test.each([
    [403, remote('StandbyException'), 'standby', 'REMOTE_ERROR'],
    [403, remote('InvalidToken', 'StandbyException: Operation category READ is not supported'), 'standby', 'REMOTE_ERROR'],
    [403, remote('RetriableException', 'Namenode is in startup mode'), 'starting', 'REMOTE_ERROR'],
    [403, remote('SafeModeException', 'Name node is in safe mode.'), 'safe-mode', 'UNAVAILABLE'],
    [403, remote('AlreadyBeingCreatedException'), 'lease', 'REMOTE_ERROR'],
    [403, remote('FileAlreadyExistsException'), 'exists', 'CONFLICT'],
    [403, remote('DSQuotaExceededException'), 'refused', 'REMOTE_REFUSED'],
    [403, remote('NSQuotaExceededException'), 'refused', 'REMOTE_REFUSED'],
    [403, remote('AccessControlException', 'Permission denied: user=nobody'), 'refused', 'REMOTE_REFUSED'],
    [403, remote('IOException', 'Offset=10 out of the range [0, 10)'), 'out-of-range', 'OFFSET_OUT_OF_RANGE'],
    [403, remote('IOException', 'Unable to close file because the last block does not have enough number of replicas.'), 'unknown', 'UNKNOWN_OUTCOME'],
    [403, remote('IOException', 'something else'), 'transient', 'REMOTE_ERROR'],
    [404, remote('FileNotFoundException'), 'missing', 'NOT_FOUND'],
    [500, remote('RemoteException', 'org.apache.hadoop.security.AccessControlException: Permission denied'), 'refused', 'REMOTE_REFUSED'],
    [500, remote('RemoteException', 'org.apache.hadoop.ipc.StandbyException: not active'), 'standby', 'REMOTE_ERROR'],
    [401, remote('SecurityException', 'Failed to obtain user group information: InvalidToken: expired'), 'bad-token', 'REMOTE_REFUSED'],
    [401, '<html>Authentication required</html>', 'unauthenticated', 'REMOTE_REFUSED'],
    [404, '<html>no such page: a proxy speaking</html>', 'transient', 'REMOTE_ERROR'],
    [502, '', 'transient', 'REMOTE_ERROR'],
  ] as const)('of status %i with %s is %s, and %s to its caller', (status, body, kind, code) => {
    const failure = classifyFailure(status, body)
    expect(failure.kind).toBe(kind)
    expect(failureToError(failure, 'CREATE /t/a').code).toBe(code)
  })

  test('a stack trace in the message is cut to its first line', () => {
    const failure = classifyFailure(403, remote('IOException', `first\n\tat java.lang.Thread.run(Thread.java:829)`))
    expect(failureToError(failure, 'CREATE /t/a').message).toBe('CREATE /t/a: IOException: first')
  })
})
