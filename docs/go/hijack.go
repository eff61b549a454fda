package constructs

import "net"

// show
func takeOver(w hijacker) (net.Conn, []byte, error) {
	c, buf, err := w.Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := buf.Reader.Peek(buf.Reader.Buffered())
	return c, early, err
}
