package constructs

import "net"

// show
func send(c net.Conn, frame []byte) error {
	_, err := c.Write(frame) // all of it, or an error
	return err
}
