package constructs

import "net"

// show
func closeBeside(c net.Conn) error {
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err // net.ErrClosed
	}()
	c.Close() // wakes the reader
	return <-done
}
