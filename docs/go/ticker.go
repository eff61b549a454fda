package constructs

import "time"

// show
func pings(c *client, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case message := <-c.send:
			c.conn.WriteMessage(1, message)
		case <-ticker.C:
			c.conn.WriteMessage(9, nil)
		}
	}
}
