package constructs

import "time"

// show
func writeInTime(c conn, message []byte) error {
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	return c.WriteMessage(1, message)
}
